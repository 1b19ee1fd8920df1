use std::collections::BTreeSet;

use nix::sys::epoll::EpollCreateFlags;
use vip_model::service::{Protocol, ServicePort};

use super::*;
use crate::wire::{Attributes, Messages};

/// `NFT_MSG_NEWSETELEM` under the subsystem 10.
const NEW_ELEMENTS: u16 = 0x0a0c;

fn closed() -> Filter {
    Filter::new(Arc::new(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap()), 0)
}

fn refusal(errno: i32) -> Result<Option<Seen>, Refusal> {
    Err(Refusal { errno, words: None })
}

#[test]
fn a_kernel_without_nftables_refuses_in_words_and_has_nothing_to_remove() {
    let wanted = PacketFilter::default();
    for errno in [libc::EPROTONOSUPPORT, libc::EOPNOTSUPP, libc::EAFNOSUPPORT] {
        let mut filter = closed();
        let outcome = filter.conclude("kube_vip_x".to_owned(), Some(&wanted), refusal(errno));
        let Outcome::Failed { errno: shown, text } = outcome else { panic!("{outcome:?}") };
        assert_eq!(shown, errno);
        for part in ["cannot set the packet filter", "inet kube_vip_x", "CONFIG_NF_TABLES", "enable_service"]
        {
            assert!(text.contains(part), "{part:?} in {text:?}");
        }
        assert_eq!(filter.look(), Known::Unknown);
        assert_eq!(filter.conclude("kube_vip_x".to_owned(), None, refusal(errno)), Outcome::Done);
        assert_eq!(filter.look(), Known::Known(FilterState::Absent));
    }
    // That the table cannot be removed for other reasons is no success.
    let outcome = closed().conclude("kube_vip_x".to_owned(), None, refusal(libc::EPERM));
    let Outcome::Failed { text, .. } = outcome else { panic!("{outcome:?}") };
    assert!(text.contains("cannot remove") && text.contains("NET_ADMIN"), "{text:?}");
}

#[test]
fn every_instance_has_a_table_of_its_own_that_nftables_accepts() {
    let name = |instance: &str| table::name(&InstanceName::new(instance));
    assert_eq!(name("control-plane"), "kube_vip_control-plane");
    assert_eq!(name("Site.1_a"), "kube_vip_Site.1_a");
    let long = "x".repeat(244);
    let names = ["a b", "a/b", "a_b", "ä_b", "", &long[..243], &long, &long.replace('x', "é")].map(name);
    for name in &names {
        assert!(name.len() <= 255, "{name} has {} bytes", name.len());
        assert!(name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)), "{name}");
    }
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "{names:?}");
}

#[test]
fn a_transaction_is_one_batch_with_one_acknowledgement_and_no_message_too_long() {
    let port = |port| ServicePort { protocol: Protocol::Tcp, port };
    let addr = |at: u16| [0x2001, 0xdb8, 0, 0, 0, 0, 0, at].into();
    let open = (0..3000).map(|at| (addr(at), (1..=3).map(port).collect())).collect();
    let transaction = table::transaction("kube_vip_x", Some(&PacketFilter { open }));
    let messages: Vec<_> = Messages(&transaction.bytes).collect();
    // NFNL_MSG_BATCH_BEGIN, NFNL_MSG_BATCH_END; then NFT_MSG_… under the subsystem 10.
    let kinds: Vec<u16> = messages.iter().map(|message| message.kind & 0xff).collect();
    assert_eq!((kinds[0], kinds[kinds.len() - 1]), (16, 17));
    assert_eq!(kinds[1..5], [0, 2, 0, 9], "add, delete, add the table; then the first set");
    let elements: usize =
        messages.iter().filter(|message| message.kind == NEW_ELEMENTS).map(elements_of).sum();
    assert_eq!(elements, 3000 + 9000);
    let asks = |message: &&crate::wire::Message| message.flags & libc::NLM_F_ACK as u16 != 0;
    assert_eq!(messages.iter().filter(asks).count(), 1);
    assert!(asks(&&messages[messages.len() - 2]), "the last one before the end asks");
    assert_eq!(transaction.rules, kinds.iter().filter(|kind| **kind == 6).count());
    // Nothing was cut off by the 16 bits of an attribute's length.
    for message in &messages {
        let body = &message.body[INET.len()..];
        let used: usize = Attributes(body).map(|(_, value)| (4 + value.len()).next_multiple_of(4)).sum();
        assert_eq!(used, body.len(), "message {}", message.kind);
    }
}

/// `NFTA_SET_ELEM_LIST_ELEMENTS` is attribute 3.
fn elements_of(message: &crate::wire::Message<'_>) -> usize {
    let lists = Attributes(&message.body[INET.len()..]).filter(|(kind, _)| *kind == 3);
    lists.map(|(_, list)| Attributes(list).count()).sum()
}
