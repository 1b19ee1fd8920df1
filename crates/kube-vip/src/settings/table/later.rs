//! The settings of features that are not built yet, and names that mean nothing any more.

use super::Status::{NotNeeded, NotYet, Retired};
use super::{key, rows};

const DHCP: super::Status =
    NotNeeded("it only matters for addresses by name or DHCP, which are not built yet");
const IPVS: super::Status = NotYet("load balancing of the control plane");
const BGP_MODE: super::Status = NotYet("BGP mode");
const TABLE_MODE: super::Status = NotYet("routing-table mode");
const EGRESS_FEATURE: super::Status = NotYet("egress");
const ETCD_ELECTION: super::Status = NotYet("election in etcd");
const NEVER_READ: super::Status = Retired("kube-vip has long ignored it");

rows! {
    /// What else can be asked for with Services.
    MORE_SERVICES {
        "mirrorDestInterface", key::MIRROR, "mirrorDestInterface"; Text ""; NotYet("mirroring");
            "Link to which Service traffic is mirrored."
        "debounceTime", "", "debounceTime"; Text "0s"; NotYet("gathering changes");
            "How long changes of a Service are gathered."
        "", "enable_upnp", "enableUPNP"; Bool "false"; NotYet("UPnP");
            "Open ports on the router by UPnP."
    }

    /// Names and DHCP.
    NAMES {
        "dnsMode", key::DNS_MODE, "dnsMode"; Text "first"; DHCP;
            "Which addresses of a DNS name are used: first, ipv4, ipv6, dual."
        "dhcpMode", key::DHCP_MODE, "dhcpMode"; Text ""; DHCP;
            "Families asked for by DHCP: ipv4, ipv6, dual."
        "dhcpBackoffAttempts", key::DHCP_ATTEMPTS, "dhcpBackoffAttempts"; Number "3"; DHCP;
            "Attempts to get an address by DHCP; 0 is no limit."
    }

    /// IPVS.
    BALANCE {
        "enableLoadBalancer", key::BALANCE, "enableLoadBalancer"; Bool "false"; IPVS;
            "Spread connections to the control-plane address over all API servers."
        "lbPort", key::BALANCE_PORT, "loadBalancerPort"; Port "6443"; IPVS;
            "Front port."
        "lbForwardingMethod", key::BALANCE_METHOD, "loadBalancerForwardingMethod"; Text "local"; IPVS;
            "local, masquerade, tunnel, directroute or bypass."
        "", "backend_health_check_interval", "backendHealthCheckInterval"; Seconds "0"; IPVS;
            "Time between two checks of an API server; 0 is 5 seconds."
    }

    /// BGP.
    BGP {
        "bgpAttachIPToInterface", key::BGP_ATTACH, "bgpAttachIPToInterface"; Bool "false"; BGP_MODE;
            "Put Service addresses on the link, too."
        "bgpRouterID", key::BGP_ROUTER_ID, "bgpConfig.routerID"; Text ""; BGP_MODE;
            "Router id, written as an IPv4 address."
        "", "bgp_routerinterface", "bgpConfig.routerInterface"; Text ""; BGP_MODE;
            "Link whose first address is the router id."
        "sourceIF", key::BGP_SOURCE_IF, "bgpConfig.sourceIF"; Text ""; BGP_MODE;
            "Link from which sessions are opened."
        "sourceIP", key::BGP_SOURCE_IP, "bgpConfig.sourceIP"; Text ""; BGP_MODE;
            "Address from which sessions are opened."
        "localAS", key::BGP_AS, "bgpConfig.as"; Number "65000"; BGP_MODE;
            "Our autonomous system."
        "bgpHoldTimer", "bgp_hold_time", "bgpConfig.holdTime"; Seconds "30"; BGP_MODE;
            "Hold time."
        "bgpKeepAliveInterval", "bgp_keepalive_interval", "bgpConfig.keepaliveInterval"; Seconds "10"; BGP_MODE;
            "Time between two keepalives."
        "peerAddress", key::BGP_PEER_ADDRESS, "bgpPeerConfig.address"; Text ""; BGP_MODE;
            "Address of one peer."
        "peerAS", key::BGP_PEER_AS, "bgpPeerConfig.as"; Number "65000"; BGP_MODE;
            "Autonomous system of that peer."
        "peerPass", key::BGP_PEER_PASS, "bgpPeerConfig.password"; Text ""; BGP_MODE;
            "TCP MD5 password of that peer."
        "multihop", "bgp_multihop", "bgpPeerConfig.multiHop"; Bool "false"; BGP_MODE;
            "That peer is more than one hop away."
        "bgppeers", key::BGP_PEERS, "bgpConfig.peers"; List ""; BGP_MODE;
            "Peers, address:AS:password:multihop and more."
        "", "mpbgp_nexthop", "mpbgpNexthop"; Text ""; BGP_MODE;
            "Next hop of the other family: fixed, auto_sourceif or auto_sourceip."
        "", "mpbgp_ipv4", "mpbgpIPv4"; Text ""; BGP_MODE;
            "Fixed IPv4 next hop."
        "", "mpbgp_ipv6", "mpbgpIPv6"; Text ""; BGP_MODE;
            "Fixed IPv6 next hop."
        "annotations", key::ANNOTATION, "annotations"; Text ""; BGP_MODE;
            "Prefix of Node annotations with BGP settings."
        "zebra", "zebra_enable", "zebra.enabled"; Bool "false"; BGP_MODE;
            "Talk to FRR's zebra."
        "zebraUrl", "zebra_url", "zebra.url"; Text "unix:/var/run/frr/zserv.api"; BGP_MODE;
            "Where zebra listens."
        "zebraVersion", "zebra_version", "zebra.version"; Number "6"; BGP_MODE;
            "Version of zebra's protocol."
        "zebraSoftwareName", "zebra_software_name", "zebra.softwareName"; Text "frr8.3"; BGP_MODE;
            "Flavour of zebra."
    }

    /// Routing table.
    ROUTES {
        "tableID", "vip_routingtableid", "routingTableID"; Number "198"; TABLE_MODE;
            "Routing table."
        "tableType", "vip_routingtabletype", "routingTableType"; Number "1"; TABLE_MODE;
            "Type of the routes, a number of rtnetlink."
        "routingProtocol", "vip_routingprotocol", "routingProtocol"; Number "248"; TABLE_MODE;
            "Protocol number of the routes."
        "cleanRoutingTable", "vip_cleanroutingtable", "cleanRoutingTable"; Bool "false"; TABLE_MODE;
            "Remove left-over routes at start."
    }

    /// Egress.
    EGRESS {
        "egressWithNftables", "egress_withnftables", "egressWithNftables"; Bool "true"; EGRESS_FEATURE;
            "Write nftables rules (else iptables)."
        "", "egress_podcidr", "egressPodCidr"; Text ""; EGRESS_FEATURE;
            "Networks of the pods."
        "", "egress_servicecidr", "egressServiceCidr"; Text ""; EGRESS_FEATURE;
            "Networks of the Services."
        "", "egress_enableinternalsnat", "enableInternalSNAT"; Bool "false"; EGRESS_FEATURE;
            "Translate traffic inside the cluster, too."
        "", "egress_clean", "egressClean"; Bool "false"; EGRESS_FEATURE;
            "Remove left-over rules at start."
    }

    /// etcd.
    ETCD {
        "etcdCACert", "", "etcd.caFile"; Text ""; ETCD_ELECTION;
            "CA of the etcd servers."
        "etcdCert", "", "etcd.clientCertFile"; Text ""; ETCD_ELECTION;
            "Client certificate."
        "etcdKey", "", "etcd.clientKeyFile"; Text ""; ETCD_ELECTION;
            "Key of the client certificate."
        "etcdEndpoints", "", "etcd.endpoints"; List ""; ETCD_ELECTION;
            "The etcd servers."
    }

    /// Names that mean nothing any more.
    RETIRED {
        "", "vip_singlenode", "singleNode"; Bool "false"; NEVER_READ;
            "Nothing."
        "", "vip_startleader", "startAsLeader"; Bool "false"; NEVER_READ;
            "Nothing."
        "", "vip_configmap", ""; Text "plndr"; NEVER_READ;
            "Nothing."
        "", "iptables_backend", "iptablesBackend"; Text ""; NEVER_READ;
            "Nothing."
        "", "", "addPeersAsBackends"; Bool "false"; NEVER_READ;
            "Nothing."
        "", "", "loadBalancers"; List ""; NEVER_READ;
            "Nothing."
        "", "debounce_time", ""; Text "0s"; NotNeeded("kube-vip's own manifests carry it and never read it");
            "Nothing; the flag is --debounceTime."
        "", "vip_cidr", ""; Text ""; Retired("its name is vip_subnet now");
            "Former name of vip_subnet."
    }
}
