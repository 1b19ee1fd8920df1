//! The settings for Services of type `LoadBalancer`.

use super::Status::Built;
use super::{key, rows};

rows! {
    /// Services.
    SERVICES {
        "serviceInterface", key::SERVICES_INTERFACE, "servicesInterface"; Text ""; Built;
            "Link for Service addresses; auto is the link whose network contains them; default is vip_interface."
        "servicesElection", key::SERVICES_ELECTION, "enableServicesElection"; Bool "false"; Built;
            "One election per Service instead of one for all."
        "servicesLeaseName", key::SERVICES_LEASE, "servicesLeaseName"; Text "plndr-svcs-lock"; Built;
            "Lease of the one election for all Services: name or namespace/name; default namespace is the pod's, else cp_namespace."
        "perServiceElectionOnDemand", key::ON_DEMAND, "perServiceElectionOnDemand"; Bool "false"; Built;
            "Under one election for all, another for each Service with kube-vip.io/forcePerServiceElection."
        "", key::SERVICES_NAMESPACE, "serviceNamespace"; Text ""; Built;
            "Only Services of this namespace; also the namespace of generated manifests."
        "lbClassOnly", key::CLASS_ONLY, "loadBalancerClassOnly"; Bool "false"; Built;
            "Not the Services without a class; only read under legacy handling."
        "lbClassName", key::CLASS_NAME, "loadBalancerClassName"; Text "kube-vip.io/kube-vip-class"; Built;
            "Our load-balancer class; an empty variable is no class."
        "lbClassNameLegacyHandling", key::CLASS_LEGACY, "loadBalancerClassLegacyHandling"; Bool "true"; Built;
            "Take Services without a class, too, unless lb_class_only; false takes them only where lb_class_name is empty."
        "onlyAllowTrafficServicePorts", key::SERVICE_SECURITY, "enableServiceSecurity"; Bool "false"; Built;
            "Drop traffic to ports that the Service does not have."
        "disableServiceUpdates", key::NO_SERVICE_UPDATES, "disableServiceUpdates"; Bool "false"; Built;
            "Never write to Services."
        "enableEndpoints", key::ENDPOINTS, "enableEndpoints"; Bool "false"; Built;
            "Read Endpoints instead of EndpointSlices."
        "servicesIpam", key::IPAM, "servicesIpam"; Bool "false"; Built;
            "Give Services their addresses from the pools in the cloud-provider's ConfigMap; off where that one runs."
        "", key::IPAM_NAMESPACE, "servicesIpamNamespace"; Text "kube-system"; Built;
            "Namespace of that ConfigMap."
        "", key::IPAM_CONFIG_MAP, "servicesIpamConfigMap"; Text "kubevip"; Built;
            "Name of that ConfigMap."
    }
}
