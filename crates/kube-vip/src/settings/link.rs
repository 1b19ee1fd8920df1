//! Which link carries addresses, and what it means that it is down: read alike for the control plane and for Services.

use vip_model::config::{InterfaceChoice, LinkDown};

use super::key;
use super::refusal::Refusal;
use super::source::Values;

/// The kernel's limit for the name of a link, without the closing zero (`IFNAMSIZ`).
const LONGEST_LINK_NAME: usize = 15;

/// The link that the setting `key` names; nothing and `auto` leave the choice to the program.
pub(super) fn choice(values: &Values, key: &str) -> Result<InterfaceChoice, Refusal> {
    match values.text(key) {
        "" | "auto" => Ok(InterfaceChoice::Auto),
        name if name.len() > LONGEST_LINK_NAME || name.contains(|c: char| c == '/' || c.is_whitespace()) => {
            Err(values.refuse(
                key,
                "no link can have this name; give 1 to 15 bytes without slash and space, or leave it empty",
            ))
        }
        name => Ok(InterfaceChoice::Named(name.to_owned())),
    }
}

/// What a link that is down means.
pub(super) fn down(values: &Values) -> Result<LinkDown, Refusal> {
    Ok(if values.boolean(key::INTERFACE_NOT_UP)? { LinkDown::Ignore } else { LinkDown::Yield })
}
