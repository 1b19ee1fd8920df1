use std::collections::VecDeque;
use std::thread;

use vip_model::QuestionId;
use vip_model::observed::{Errand, ErrandAnswer, ErrandTask};

use super::*;
use crate::run::inbox::Inbox;

/// A node that follows a script: what it says after each input, and when it wants to be called.
#[derive(Default)]
struct Scripted {
    says: VecDeque<Output>,
    on_stop: Vec<Output>,
    every: Option<Duration>,
    next: Option<Instant>,
    polls: u64,
    turns: u64,
}

impl Machine for Scripted {
    type Want = ();
    type Input = Input;
    type Output = Output;

    fn want(&mut self, _now: Instant, _want: ()) {}

    fn handle(&mut self, _now: Instant, input: Input) {
        match input {
            Input::Stop => self.says.extend(self.on_stop.drain(..)),
            Input::Errand(answer) => self.says.push_back(errand(answer.id.0 + 1)),
            _ => {}
        }
    }

    fn poll(&mut self, now: Instant) -> Option<Output> {
        self.polls += 1;
        if let (Some(every), true) = (self.every, self.next.is_none_or(|next| now >= next)) {
            self.next = Some(now + every);
            self.turns += 1;
        }
        self.says.pop_front()
    }

    fn deadline(&self) -> Option<Instant> {
        self.next
    }
}

impl Node for Scripted {
    fn view(&mut self) -> Arc<View> {
        let mut view = View::default();
        view.counters.turns = self.turns;
        view.counters.plans = self.polls;
        Arc::new(view)
    }

    fn explain(&self, service: &ServiceName) -> Option<Explanation> {
        Some(Explanation {
            service: service.clone(),
            node: "n1".to_owned(),
            instance: "services".to_owned(),
            findings: Vec::new(),
            verdict: vip_model::verdict::Verdict::Announce,
            since: None,
        })
    }
}

fn errand(id: u64) -> Output {
    let task = ErrandTask::HttpProbe { url: String::new(), timeout: Duration::from_secs(1), ca_path: None };
    Output::Errand(Errand { id: QuestionId(id), task })
}

/// Surroundings in which nothing happens but what is posted.
struct Quiet<'a> {
    board: &'a Board,
    carried: Vec<Output>,
}

impl Surroundings for Quiet<'_> {
    fn carry(&mut self, output: Output) {
        self.carried.push(output);
    }

    fn wait(&mut self, deadline: Option<Instant>) -> io::Result<()> {
        self.board.inbox.wait(deadline, None).map(|_| ())
    }

    fn take_heard(&mut self) -> Vec<PeerHeard> {
        Vec::new()
    }
}

fn quiet(board: &Board) -> Quiet<'_> {
    Quiet { board, carried: Vec::new() }
}

fn board() -> Arc<Board> {
    Arc::new(Board::new(Arc::new(Inbox::new().unwrap())))
}

fn answer(id: u64) -> Input {
    Input::Errand(ErrandAnswer { id: QuestionId(id), result: Ok(()) })
}

#[test]
fn inputs_become_outputs_and_exit_ends_the_loop() {
    let board = board();
    board.inbox.post(answer(1));
    board.inbox.post(answer(5));
    board.inbox.post(Input::Stop);
    let node = Scripted { on_stop: vec![Output::Exit], ..Scripted::default() };
    let mut around = quiet(&board);
    let ended = drive(node, &board, &mut around).unwrap();
    assert_eq!(ended, Ended::InOrder);
    assert_eq!(around.carried, vec![errand(2), errand(6)]);
    assert_eq!(board.view().counters.plans, 3, "the last view is published");
}

#[test]
fn an_input_from_another_thread_wakes_a_node_that_waits_for_nothing() {
    let board = board();
    let poster = Arc::clone(&board);
    let thread = thread::spawn(move || {
        thread::sleep(Duration::from_millis(20));
        poster.inbox.post(Input::Stop);
    });
    let node = Scripted { on_stop: vec![Output::Exit], ..Scripted::default() };
    assert_eq!(drive(node, &board, &mut quiet(&board)).unwrap(), Ended::InOrder);
    thread.join().unwrap();
}

#[test]
fn a_node_that_does_not_stop_is_given_up_after_three_seconds() {
    let board = board();
    board.inbox.post(Input::Stop);
    let began = boot_now();
    assert_eq!(drive(Scripted::default(), &board, &mut quiet(&board)).unwrap(), Ended::GaveUp);
    let took = boot_now().since(began);
    assert!(took >= STOP_WITHIN && took < STOP_WITHIN + Duration::from_millis(500), "{took:?}");
}

#[test]
fn a_second_stop_does_not_extend_the_time_for_stopping() {
    let board = board();
    board.inbox.post(Input::Stop);
    let poster = Arc::clone(&board);
    let thread = thread::spawn(move || {
        thread::sleep(Duration::from_secs(2));
        poster.inbox.post(Input::Stop);
    });
    let began = boot_now();
    assert_eq!(drive(Scripted::default(), &board, &mut quiet(&board)).unwrap(), Ended::GaveUp);
    assert!(boot_now().since(began) < Duration::from_secs(4));
    thread.join().unwrap();
}

#[test]
fn deadlines_are_served_in_time_and_turns_are_measured() {
    let board = board();
    let poster = Arc::clone(&board);
    let thread = thread::spawn(move || {
        thread::sleep(Duration::from_millis(200));
        poster.inbox.post(Input::Stop);
    });
    let node = Scripted {
        every: Some(Duration::from_millis(10)),
        on_stop: vec![Output::Exit],
        ..Scripted::default()
    };
    drive(node, &board, &mut quiet(&board)).unwrap();
    thread.join().unwrap();
    let turns = board.view().counters.turns;
    assert!((10..=22).contains(&turns), "{turns} deadlines of 10 ms in 200 ms");
    assert!(board.turns.read().1 >= 10, "turn_seconds counts them");
    assert_eq!(board.alive(), Ok(()));
}

#[test]
fn a_deadline_that_stays_in_the_past_does_not_burn_a_core() {
    struct Stuck(u64);
    impl Machine for Stuck {
        type Want = ();
        type Input = Input;
        type Output = Output;
        fn want(&mut self, _now: Instant, _want: ()) {}
        fn handle(&mut self, _now: Instant, _input: Input) {}
        fn poll(&mut self, _now: Instant) -> Option<Output> {
            self.0 += 1;
            (self.0 > 100).then_some(Output::Exit)
        }
        fn deadline(&self) -> Option<Instant> {
            Some(Instant::ZERO)
        }
    }
    impl Node for Stuck {
        fn view(&mut self) -> Arc<View> {
            Arc::default()
        }

        fn explain(&self, _: &ServiceName) -> Option<Explanation> {
            None
        }
    }
    let began = boot_now();
    let board = board();
    drive(Stuck(0), &board, &mut quiet(&board)).unwrap();
    assert!(boot_now().since(began) >= Duration::from_millis(50), "100 turns took at least 100 pauses");
}
