use std::os::unix::fs::PermissionsExt;

use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use vip_model::session::{Jury, SessionRecord, Succession};
use vip_model::{LeaseName, NodeName};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

struct Rig {
    folder: TempDir,
    boot: PathBuf,
    runtime: Runtime,
}

impl Rig {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let boot = folder.path().join("boot_id");
        fs::write(&boot, "0f000000-0000-0000-f000-00000000000f\n").unwrap();
        Self { folder, boot, runtime: Builder::new_current_thread().build().unwrap() }
    }

    fn run_folder(&self) -> PathBuf {
        self.folder.path().join("run")
    }

    fn open(&self) -> Arc<MemoryFile> {
        Arc::new(MemoryFile::open(&[self.run_folder()], "services", &self.boot))
    }

    fn path(&self) -> PathBuf {
        self.run_folder().join("services.session")
    }

    fn keep(&self, memory: &Memory, keys: &[PeerKey]) {
        let file = self.open();
        file.keep_keys(keys.to_vec(), self.runtime.handle());
        file.remember(Box::new(memory.clone()), self.runtime.handle());
        file.flush(SECOND);
    }
}

fn memory(id: u64) -> Memory {
    let record = SessionRecord {
        id: SessionId(id),
        node: NodeName::new("n1"),
        boot: BootId(SessionId(7)),
        doors: vec!["192.0.2.1:7949".parse().unwrap(), "[2001:db8::1]:7949".parse().unwrap()],
        sites: vec![],
        jury: Jury { generation: 3, members: vec![NodeName::new("n2")] },
        former: vec![Succession { id: SessionId(1), heir: None }],
        end: None,
        keys: vec![],
        was_heard: true,
        drill: None,
    };
    Memory {
        members: vec![record.clone()],
        record,
        claims: vec![LeaseName::new("web", "kubevip-web")],
        successions: vec![Succession { id: SessionId(1), heir: Some(SessionId(2)) }],
    }
}

fn keys() -> [PeerKey; 2] {
    [PeerKey::new([0xab; PeerKey::LENGTH]), PeerKey::new([1; PeerKey::LENGTH])]
}

#[test]
fn what_was_forgotten_is_not_recalled() {
    let rig = Rig::new();
    rig.keep(&memory(5), &[]);
    assert!(rig.open().recall().0.memory.is_some());
    MemoryFile::forget(&[rig.run_folder()], "services");
    assert!(rig.open().recall().0.memory.is_none());
}

#[test]
fn the_next_life_of_an_agent_finds_what_the_last_one_kept() {
    let rig = Rig::new();
    rig.keep(&memory(5), &keys());
    let (recall, found) = rig.open().recall();
    assert_eq!(recall.memory, Some(memory(5)));
    assert_eq!(found, keys());
    assert_eq!(recall.boot, BootId(SessionId(0xff00_0000_0000_000f)), "both halves of the kernel's id");
}

#[test]
fn the_first_life_finds_nothing() {
    let (recall, keys) = Rig::new().open().recall();
    assert_eq!((recall.memory, keys), (None, Vec::new()));
}

#[test]
fn what_another_boot_left_has_ended() {
    let rig = Rig::new();
    rig.keep(&memory(5), &keys());
    fs::write(&rig.boot, "10000000-0000-0000-0000-000000000000\n").unwrap();
    let (recall, keys) = rig.open().recall();
    assert_eq!((recall.memory, keys), (None, Vec::new()));
    assert_eq!(recall.boot, BootId(SessionId(0x1000_0000_0000_0000)));
}

#[test]
fn without_a_boot_id_nothing_is_recalled() {
    let rig = Rig::new();
    fs::remove_file(&rig.boot).unwrap();
    rig.keep(&memory(5), &keys());
    assert_eq!(rig.open().recall().0.memory, None, "it could be from any boot");
}

#[test]
fn only_the_user_of_the_agent_can_read_the_keys() {
    let rig = Rig::new();
    rig.keep(&memory(5), &keys());
    assert_eq!(fs::metadata(rig.path()).unwrap().permissions().mode() & 0o777, 0o600);
    fs::set_permissions(rig.path(), fs::Permissions::from_mode(0o644)).unwrap();
    rig.keep(&memory(6), &keys());
    assert_eq!(fs::metadata(rig.path()).unwrap().permissions().mode() & 0o777, 0o600, "it is made anew");
}

#[test]
fn a_file_that_is_cut_short_or_of_another_version_is_as_good_as_none_and_never_quoted() {
    let rig = Rig::new();
    rig.keep(&memory(5), &keys());
    let whole = fs::read_to_string(rig.path()).unwrap();
    let spoilt = [
        whole[..whole.len() / 2].to_owned(),
        String::new(),
        whole.replace("\"version\":1", "\"version\":2"),
        whole.replace("\"keys\":[", "\"keys\":[7,"),
    ];
    for text in spoilt {
        fs::write(rig.path(), &text).unwrap();
        let Err(reason) = read(&rig.path()) else { panic!("{text}") };
        assert!(!reason.contains("abab"), "{reason}");
        let (recall, keys) = rig.open().recall();
        assert_eq!((recall.memory, keys), (None, Vec::new()), "{text}");
    }
}

#[test]
fn the_newest_of_many_memories_is_the_one_that_stays() {
    let rig = Rig::new();
    let file = rig.open();
    for id in 0..500 {
        file.remember(Box::new(memory(id)), rig.runtime.handle());
    }
    file.flush(10 * SECOND);
    assert_eq!(rig.open().recall().0.memory, Some(memory(499)));
    assert!(!rig.path().with_extension("session.new").exists());
}

#[test]
fn new_keys_are_kept_beside_what_was_remembered() {
    let rig = Rig::new();
    let file = rig.open();
    file.keep_keys(keys().to_vec(), rig.runtime.handle());
    file.flush(SECOND);
    assert!(!rig.path().exists(), "keys alone are of no use to a next life");
    file.remember(Box::new(memory(1)), rig.runtime.handle());
    let newer = PeerKey::new([9; PeerKey::LENGTH]);
    file.keep_keys(vec![newer.clone()], rig.runtime.handle());
    file.flush(SECOND);
    assert_eq!(rig.open().recall().1, [newer]);
}

#[test]
fn recalled_keys_stay_until_newer_ones_come() {
    let rig = Rig::new();
    rig.keep(&memory(1), &keys());
    let file = rig.open();
    file.recall();
    file.remember(Box::new(memory(2)), rig.runtime.handle());
    file.flush(SECOND);
    let (recall, found) = rig.open().recall();
    assert_eq!((recall.memory, found), (Some(memory(2)), keys().to_vec()));
}

#[test]
fn without_a_folder_the_agent_goes_on() {
    let rig = Rig::new();
    fs::write(rig.run_folder(), "a file").unwrap();
    let file = rig.open();
    assert_eq!(file.recall().0.memory, None);
    file.remember(Box::new(memory(1)), rig.runtime.handle());
    file.flush(SECOND);
}

#[test]
fn a_key_in_the_file_is_64_hexadecimal_digits() {
    let key = PeerKey::new(std::array::from_fn(|at| at as u8 * 7));
    assert_eq!(key_of(&hex(&key)), Some(key));
    for bad in ["", "ab", "zz", &"a".repeat(63), &"a".repeat(66), &"é".repeat(32)] {
        assert_eq!(key_of(bad), None, "{bad}");
    }
}
