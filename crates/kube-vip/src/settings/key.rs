//! The names by which the program reads its settings: the environment variable, or the flag where there is none.
//! `table` gives each of them its other spellings; nothing else in the program spells a setting.

macro_rules! keys {
    ($($name:ident = $key:literal;)*) => {
        $(pub(crate) const $name: &str = $key;)*
        /// All keys of this module, to check them against the table.
        #[cfg(test)]
        pub(crate) const ALL: &[&str] = &[$($key),*];
    };
}

keys! {
    // what this agent does
    ARP = "vip_arp";
    BGP = "bgp_enable";
    TABLE = "vip_routingtable";
    WIREGUARD = "vip_wireguard";
    CONTROL_PLANE = "cp_enable";
    SERVICES = "svc_enable";
    INSTANCE = "instance_name";
    NODE = "vip_nodename";
    CONFIG_FILE = "config_file";
    STRICT = "strict_config";
    // the control-plane address
    ADDRESS = "address";
    VIP = "vip_address";
    SUBNET = "vip_subnet";
    PORT = "port";
    INTERFACE = "vip_interface";
    INTERFACE_NOT_UP = "vip_allow_interface_not_up";
    LOOPBACK_GLOBAL = "vip_interfaceloglobal";
    PRESERVE = "vip_preserve_on_leadership_loss";
    NODE_LABEL = "enable_node_labeling";
    DDNS = "vip_ddns";
    // announcing
    ARP_RATE = "vip_arpRate";
    SKIP_DAD = "vip_skipdad";
    // election
    ELECTION_MODE = "election_mode";
    ELECTION_BACKEND = "--leaderElectionType";
    LEADER_ELECTION = "vip_leaderelection";
    LEASE_NAME = "vip_leasename";
    LEASE_DURATION = "vip_leaseduration";
    RENEW_DEADLINE = "vip_renewdeadline";
    RETRY_PERIOD = "vip_retryperiod";
    LEASE_ANNOTATIONS = "vip_leaseannotations";
    NAMESPACE = "cp_namespace";
    LOSE_LEADERSHIP = "vip_loseleadership";
    LOSE_TIMEOUT = "vip_loseleadership_timeout_seconds";
    PREFERRED_NODES = "preferred_nodes";
    // sessions
    PEERS = "peers";
    PEERS_PORT = "peers_port";
    PEERS_INTERVAL = "peers_interval";
    API_LOSS = "api_loss";
    FAILBACK = "failback";
    MOVE_PAUSE = "move_pause";
    ON_STOP = "on_stop";
    CONTROL_PLANE_LIFETIME = "vip_address_lifetime";
    SERVICES_LIFETIME = "svc_address_lifetime";
    // health gate
    HEALTH_URL = "control_plane_health_check_address";
    HEALTH_PERIOD = "control_plane_health_check_period_seconds";
    HEALTH_TIMEOUT = "control_plane_health_check_timeout_seconds";
    HEALTH_THRESHOLD = "control_plane_health_check_failure_threshold";
    HEALTH_CA = "control_plane_health_check_ca_path";
    // Kubernetes API
    KUBECONFIG = "k8s_config_file";
    API_SERVER = "kubernetes_addr";
    DETECT = "cp_detect";
    // seeing
    LOG_LEVEL = "vip_loglevel";
    PROMETHEUS = "prometheus_server";
    HEALTH_PORT = "health_check_port";
    // Services
    SERVICES_INTERFACE = "vip_servicesinterface";
    SERVICES_ELECTION = "svc_election";
    SERVICES_LEASE = "svc_leasename";
    ON_DEMAND = "per_service_election_on_demand";
    SERVICES_NAMESPACE = "svc_namespace";
    CLASS_ONLY = "lb_class_only";
    CLASS_NAME = "lb_class_name";
    CLASS_LEGACY = "lb_class_legacy_handling";
    SERVICE_SECURITY = "enable_service_security";
    NO_SERVICE_UPDATES = "disable_service_updates";
    ENDPOINTS = "enable_endpoints";
    IPAM = "svc_ipam";
    IPAM_NAMESPACE = "KUBEVIP_NAMESPACE";
    IPAM_CONFIG_MAP = "KUBEVIP_CONFIG_MAP";
    // read only to write manifests
    DNS_MODE = "dns_mode";
    DHCP_MODE = "dhcp_mode";
    DHCP_ATTEMPTS = "dhcp_backoff_attempts";
    ANNOTATION = "annotation";
    BGP_ATTACH = "bgp_attach_ip_to_interface";
    BGP_ROUTER_ID = "bgp_routerid";
    BGP_AS = "bgp_as";
    BGP_PEER_ADDRESS = "bgp_peeraddress";
    BGP_PEER_PASS = "bgp_peerpass";
    BGP_PEER_AS = "bgp_peeras";
    BGP_SOURCE_IF = "bgp_sourceif";
    BGP_SOURCE_IP = "bgp_sourceip";
    BGP_PEERS = "bgp_peers";
    BALANCE = "lb_enable";
    BALANCE_PORT = "lb_port";
    BALANCE_METHOD = "lb_fwdmethod";
    MIRROR = "mirror_dest_interface";
    DEBOUNCE = "--debounceTime";
}
