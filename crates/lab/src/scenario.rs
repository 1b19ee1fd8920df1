//! Scenarios: the real binary on every node of the bench, one fault at a time, what a client sees of it, and the bound
//! that it must keep. `table` has the whole list as data, for each election mode; `Stage` is the bench with API servers and
//! contenders on it; `play` runs one row on a stage and gives an `Outcome`; `demo`, `suite`, `speed` and `console` are what
//! the program `lab` shows.

pub mod agent;
pub mod console;
pub mod contender;
pub mod control_plane;
pub mod demo;
pub mod figures;
pub mod folder;
pub mod outcome;
pub mod play;
pub mod proxy;
pub mod screen;
pub mod service;
pub mod speed;
pub mod stage;
pub mod suite;
pub mod table;
pub mod version;

pub use outcome::{Outcome, Reading};
pub use play::play;
pub use screen::Screen;
pub use stage::Stage;
pub use table::Row;
