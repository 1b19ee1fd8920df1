//! Services with something wrong in them, from a seed: what users mistype, paste and template. Pure text, so that the same
//! ones can be put into a plan and before the real binary.

use vip_model::Random;

/// A Service that nobody can serve as it is.
#[derive(Clone, Debug)]
pub(crate) struct Malformed {
    /// Annotations under `kube-vip.io/`.
    pub(crate) notes: Vec<(&'static str, String)>,
    /// `spec.loadBalancerIP`.
    pub(crate) spec_ip: Option<String>,
    /// `spec.ipFamilies`, with a single one.
    pub(crate) family: &'static str,
    /// `spec.externalTrafficPolicy`.
    pub(crate) traffic: &'static str,
}

/// A text that is nothing that anybody accepts: letters of addresses and names, in no order that makes sense. What Kubernetes
/// itself would not store in an annotation (NUL) is left out.
fn garbage(random: &mut Random) -> String {
    const PIECES: [&str; 16] = [
        "10.0.0",
        "256",
        "/33",
        "-",
        "::",
        "fd00::g",
        "1.2.3.4.5",
        "é",
        "\u{7f}",
        "\t",
        "_",
        "%eth0",
        "0x7f",
        "/",
        "..",
        "\"",
    ];
    let pieces: String = (0..=random.below(5)).map(|_| pick(random, &PIECES)).collect();
    // The underscore keeps the text from becoming an address or a name by accident.
    format!("_{pieces}_")
}

fn pick(random: &mut Random, texts: &[&'static str]) -> &'static str {
    let count = u64::try_from(texts.len()).expect("a handful");
    texts[usize::try_from(random.below(count)).expect("below a handful")]
}

/// A good address, to stand beside a bad one.
fn good(random: &mut Random) -> String {
    format!("10.90.{}.{}", random.below(250), 1 + random.below(250))
}

impl Malformed {
    /// The one of a seed.
    pub(crate) fn from_seed(seed: u64) -> Self {
        const UNUSABLE: [&str; 7] =
            ["127.0.0.1", "224.0.0.9", "255.255.255.255", "169.254.1.1", "::1", "ff02::1", "fe80::9"];
        const NAMES: [&str; 3] = ["vip.example.org", "web", "a-1.b2c."];
        let mut random = Random::new(seed);
        let random = &mut random;
        let mut bad = Self { notes: Vec::new(), spec_ip: None, family: "IPv4", traffic: "Cluster" };
        match seed % 11 {
            0 => bad.note("loadbalancerIPs", garbage(random)),
            1 => bad.note("loadbalancerIPs", format!("{},{}", good(random), garbage(random))),
            2 => bad.spec_ip = Some(garbage(random)),
            3 => bad.note("loadbalancerIPs", pick(random, &["0.0.0.0", "::", "0.0.0.0,::"]).to_owned()),
            4 => bad.note("loadbalancerIPs", pick(random, &NAMES).to_owned()),
            5 => bad.note("loadbalancerIPs", pick(random, &UNUSABLE).to_owned()),
            6 => {
                bad.note("loadbalancerIPs", good(random));
                bad.note("serviceVLAN", garbage(random));
            }
            7 => {
                bad.note("loadbalancerIPs", good(random));
                bad.note("leaseName", garbage(random));
            }
            8 => {
                let many: Vec<_> = (1..=17 + random.below(100)).map(|at| format!("10.91.0.{at}")).collect();
                bad.note("loadbalancerIPs", many.join(","));
            }
            9 => {
                bad.note("loadbalancerIPs", good(random));
                bad.family = "IPv6";
            }
            _ => {
                bad.note("loadbalancerIPs", good(random));
                bad.note("leaseName", "shared".to_owned());
                bad.traffic = "Local";
            }
        }
        bad
    }

    fn note(&mut self, key: &'static str, text: String) {
        self.notes.push((key, text));
    }
}
