//! The settings that this build acts on.

use super::Status::{Built, NotNeeded, NotYet};
use super::{key, rows};

const LINK_LOSS: &str = "a link that goes down makes this node yield at once, without a timer";

rows! {
    /// Modes and features.
    AGENT {
        "controlplane", key::CONTROL_PLANE, "enableControlPlane"; Bool "false"; Built;
            "Hold a virtual IP for the control plane (feature)."
        "services", key::SERVICES, "enableServices"; Bool "false"; Built;
            "Hold virtual IPs for Services of type LoadBalancer (feature)."
        "arp", key::ARP, "enableARP"; Bool "false"; Built;
            "Announce addresses by ARP and NDP (mode)."
        "bgp", key::BGP, "enableBGP"; Bool "false"; NotYet("BGP mode");
            "Announce addresses by BGP (mode)."
        "table", key::TABLE, "enableRoutingTable"; Bool "false"; NotYet("routing-table mode");
            "Write addresses into a routing table (mode)."
        "wireguard", key::WIREGUARD, "enableWireguard"; Bool "false"; NotYet("WireGuard mode");
            "Serve addresses through a WireGuard tunnel (mode)."
        "nodeName", key::NODE, "nodeName"; Text ""; Built;
            "Name of this Kubernetes node, made lower case: the identity in Leases; default is the host name."
        "instanceName", key::INSTANCE, "instanceName"; Text ""; Built;
            "Which agent of the node this is, up to 243 of A-Z a-z 0-9 . _ -; default is control-plane, services or all, after the features."
        "config-file", key::CONFIG_FILE, ""; Text ""; Built;
            "File with settings (.json, .yaml, .yml); the environment and flags win over it."
        "strictConfig", key::STRICT, "strictConfig"; Bool "false"; Built;
            "Refuse to start where there would be a warning."
    }

    /// The control-plane VIP.
    CONTROL_PLANE {
        "address", key::ADDRESS, "address"; Text ""; Built;
            "The virtual IP of the control plane: one or two addresses, IPv4 or IPv6, with a comma between."
        "vip", key::VIP, "vip"; Text ""; Built;
            "Older name of the address; needs vip_subnet. The address setting wins."
        "vipSubnet", key::SUBNET, "vipSubnet"; Text ""; Built;
            "Prefix length: one number, or two with a comma (IPv4,IPv6); default is 32 and 128. For Services alone also auto: that of the link's network."
        "port", key::PORT, "port"; Port "6443"; Built;
            "Port of the API server."
        "interface", key::INTERFACE, "interface"; Text ""; Built;
            "Link that carries the address; default is the link whose network contains it, else the link of the default route."
        "allowInterfaceNotUp", key::INTERFACE_NOT_UP, "allowInterfaceNotUp"; Bool "false"; Built;
            "Carry on when the link is down; by default the node yields."
        "loInterfaceGlobalScope", key::LOOPBACK_GLOBAL, "loInterfaceGlobalScope"; Bool "false"; Built;
            "Global instead of host scope for an address on the loopback link."
        "preserveVipOnLeadershipLoss", key::PRESERVE, "preserveVipOnLeadershipLoss"; Bool "false"; Built;
            "Keep IPv4 addresses after a lost election until another leader is seen; unsafe on more than one node."
        "enableNodeLabeling", key::NODE_LABEL, "enableNodeLabeling"; Bool "false"; Built;
            "Label the holder's Node: kube-vip.io/has-ip for the control plane, service-provided.kube-vip.io/… for each Service."
        "ddns", key::DDNS, "ddns"; Bool "false"; NotYet("addresses by DHCP");
            "Get the address by DHCP under the DNS name given as address."
    }

    /// Layer 2.
    ANNOUNCING {
        "", key::ARP_RATE, "arpBroadcastRate"; Millis "3000"; Built;
            "Time between two announcements after the first burst, 500 or more."
        "", key::SKIP_DAD, "skipDAD"; Bool "false"; Built;
            "Use an address without first asking whether somebody else has it."
    }

    /// Who holds the address.
    ELECTION {
        "electionMode", key::ELECTION_MODE, "electionMode"; Text "session"; Built;
            "How holders are elected: session is one Lease for each node, with heartbeats between the nodes; lease is one renewed Lease for each election, as upstream does it. All agents of an instance need the same mode."
        "leaderElectionType", "", "leaderElectionType"; Text "kubernetes"; Built;
            "Where the election is held; kubernetes is the only place today."
        "leaderElection", key::LEADER_ELECTION, "enableLeaderElection"; Bool "false"; NotNeeded("in ARP mode there is always an election");
            "Hold an election; in ARP mode there always is one."
        "leaseName", key::LEASE_NAME, "leaseName"; Text "plndr-cp-lock"; Built;
            "Lease of the control plane: name or namespace/name; default namespace is the pod's, else cp_namespace."
        "leaseDuration", key::LEASE_DURATION, "leaseDuration"; Seconds "15"; Built;
            "How long others respect a holder after its last renewal; at least 3."
        "leaseRenewDuration", key::RENEW_DEADLINE, "renewDeadline"; Seconds "10"; Built;
            "When a holder without an answered renewal gives up; less than the duration."
        "leaseRetry", key::RETRY_PERIOD, "retryPeriod"; Seconds "2"; Built;
            "Time between two renewals; 1.2 times this must be less than the renew deadline."
        "", key::LEASE_ANNOTATIONS, "leaseAnnotations"; Object ""; Built;
            "Annotations for the Lease of the control plane."
        "namespace", key::NAMESPACE, "namespace"; Text "kube-system"; Built;
            "Namespace of the Lease when neither its name nor the service account tells one."
        "preferredNodes", key::PREFERRED_NODES, "preferredNodes"; List ""; Built;
            "Where addresses shall be while they can: label[=value][:weight], several with commas; weight is 1 to 100, default 1. The weights of all that fit a node are added up, and the largest sum goes first."
        "loseLeadership", key::LOSE_LEADERSHIP, "loseLeadership"; Bool "false"; NotNeeded(LINK_LOSS);
            "Yield when the link goes down; always so here."
        "loseLeadershiptTimeoutSeconds", key::LOSE_TIMEOUT, "loseLeadershipTimeoutSeconds"; Seconds "30"; NotNeeded(LINK_LOSS);
            "How long a link may be down before the node yields; no time at all here."
    }

    /// Sessions, claims and heartbeats.
    SESSION {
        "peers", key::PEERS, "peers"; Bool "true"; Built;
            "Exchange heartbeats with the agents of other nodes; without them a session lives by the API alone."
        "peersPort", key::PEERS_PORT, "peersPort"; Port "7949"; Built;
            "UDP port for heartbeats; default is 7950 for an agent that holds addresses of Services alone. When it is taken, another one is used, and the others learn of it."
        "peersInterval", key::PEERS_INTERVAL, "peersInterval"; Span "50ms"; Built;
            "Time between two heartbeats, 10ms to 1s; the same for all agents."
        "apiLoss", key::API_LOSS, "apiLoss"; Text "hold-if-peers-agree"; Built;
            "What a holder does when the API does not answer: hold-if-peers-agree while enough others vouch for it; hold in any case (in a partition two nodes may answer); release at the renew deadline."
        "failback", key::FAILBACK, "failback"; Text "never"; Built;
            "When addresses go back to a node that is placed better: never, how long that node must have been well, or at-once."
        "movePause", key::MOVE_PAUSE, "movePause"; Span "500ms"; Built;
            "Least time between two moves from one node that nothing forces (failback, anti-affinity), 100ms to 1h."
        "onStop", key::ON_STOP, "onStop"; Text "hand-over"; Built;
            "What a stopping agent does with its addresses: hand-over to another node; stay, for a restart of the agent within their lifetime."
        "vipAddressLifetime", key::CONTROL_PLANE_LIFETIME, "vipAddressLifetime"; Seconds "3"; Built;
            "How long the control-plane address stays in the kernel when the agent is dead; 2 or more."
        "svcAddressLifetime", key::SERVICES_LIFETIME, "svcAddressLifetime"; Seconds "8"; Built;
            "How long addresses of Services stay in the kernel when the agent is dead; 2 or more."
    }

    /// Health of the local API server.
    HEALTH {
        "controlPlaneHealthCheckAddress", key::HEALTH_URL, "controlPlaneHealthCheck.address"; Text ""; Built;
            "URL on this node that answers 200 while the API server is well, as https://127.0.0.1:6443/livez?exclude=etcd; unset is no gate."
        "controlPlaneHealthCheckPeriodSeconds", key::HEALTH_PERIOD, "controlPlaneHealthCheck.periodSeconds"; Seconds "5"; Built;
            "Time between two checks."
        "controlPlaneHealthCheckTimeoutSeconds", key::HEALTH_TIMEOUT, "controlPlaneHealthCheck.timeoutSeconds"; Seconds "3"; Built;
            "How long one check may take."
        "controlPlaneHealthCheckFailureThreshold", key::HEALTH_THRESHOLD, "controlPlaneHealthCheck.failureThreshold"; Number "3"; Built;
            "Failures in a row that make the holder yield."
        "controlPlaneHealthCheckCAPath", key::HEALTH_CA, "controlPlaneHealthCheck.caPath"; Text ""; Built;
            "PEM file with CAs to trust beside the system's."
    }

    /// The API client.
    API {
        "k8sConfigPath", key::KUBECONFIG, "k8sConfigFile"; Text "/etc/kubernetes/admin.conf"; Built;
            "Kubeconfig to look for first."
        "", key::API_SERVER, "kubernetesAddr"; Text ""; Built;
            "API server to use instead of the kubeconfig's: URL or host:port."
        "autodetectcp", key::DETECT, "detectControlPlane"; Bool "false"; Built;
            "Find the local API server through the certificate that it serves on 127.0.0.1."
    }

    /// Looking in.
    SEEING {
        "log", key::LOG_LEVEL, "logging"; Number "0"; Built;
            "Lowest level that is logged: -4 debug, 0 info, 4 warnings, 8 errors."
        "prometheusHTTPServer", key::PROMETHEUS, "prometheusHTTPServer"; Text ":2112"; Built;
            "Where metrics and health pages are served, host:port or :port; an empty flag switches it off."
        "healthCheckPort", key::HEALTH_PORT, "healthCheckPort"; Port "0"; Built;
            "Another port for the health pages, 1024 or more; 0 is none."
    }
}
