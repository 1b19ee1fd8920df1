use super::*;
use crate::dump::tests::effective;

fn ports(prometheus: Option<Listen>, health: Option<u16>) -> Vec<(&'static str, Pages)> {
    let settings = Effective { prometheus_server: prometheus, health_check_port: health, ..effective() };
    listeners(&settings).into_iter().map(|listener| (listener.setting, listener.pages)).collect()
}

#[test]
fn each_setting_opens_its_listener_and_an_empty_one_opens_none() {
    let any = |port| Some(Listen::AnyAddress { port });
    let (metrics, health) = (("prometheus_server", Pages::All), ("health_check_port", Pages::Health));
    assert_eq!(ports(any(2112), None), [metrics]);
    assert_eq!(ports(any(2112), Some(10256)), [metrics, health]);
    assert_eq!(ports(None, Some(10256)), [health]);
    assert_eq!(ports(None, None), []);
    assert_eq!(ports(any(2112), Some(2112)), [metrics], "one port is opened once");
}

#[test]
fn two_processes_that_start_together_differ_in_their_jitter() {
    assert_ne!(seed(), seed());
}
