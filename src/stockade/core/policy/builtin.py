"""What Stockade brings: network sets, services under their usual names, the default mode, label rules.

A document of the same kind and name replaces what is built in.
"""

from functools import cache

from stockade.core.model.ids import Prefix
from stockade.core.model.labels import LabelSource
from stockade.core.model.policy import (
    DEFAULT_MODE,
    METADATA_SET,
    PER_HOST_SET,
    EnforcementMode,
    LabelRule,
    Mode,
    NetworkSet,
    PolicySet,
    Service,
)
from stockade.core.model.selector import ALL
from stockade.core.policy.sets import FIELDS, documents, policy_set
from stockade.core.policy.words import ports_of

PRIVATE = (
    "10.0.0.0/8",  # RFC 1918
    "172.16.0.0/12",
    "192.168.0.0/16",
    "100.64.0.0/10",  # RFC 6598: behind a carrier's NAT
    "169.254.0.0/16",  # RFC 3927: link-local
    "fc00::/7",  # RFC 4193
    "fe80::/10",  # RFC 4291: link-local
)
"""Unicast that means something else in every network."""

SPECIAL = (
    "0.0.0.0/8",  # RFC 1122: this host
    "127.0.0.0/8",  # RFC 1122: loopback
    "192.0.0.0/24",  # RFC 6890: IETF protocol assignments
    "192.0.2.0/24",  # RFC 5737: documentation
    "192.88.99.0/24",  # RFC 3068: 6to4 relays
    "198.18.0.0/15",  # RFC 2544: benchmarks
    "198.51.100.0/24",  # RFC 5737: documentation
    "203.0.113.0/24",  # RFC 5737: documentation
    "240.0.0.0/4",  # RFC 1112: reserved, and 255.255.255.255
    "::/128",  # RFC 4291: unspecified
    "::1/128",  # RFC 4291: loopback
    "64:ff9b::/96",  # RFC 6052: IPv4 behind a translator
    "::ffff:0:0/96",  # RFC 4291: IPv4-mapped
    "100::/64",  # RFC 6666: discard
    "2001::/23",  # RFC 2928: IETF protocol assignments (Teredo, benchmarks, ORCHID)
    "2001:db8::/32",  # RFC 3849: documentation
    "2002::/16",  # RFC 3056: 6to4
)
"""The special-purpose ranges of RFC 6890 that are not in ``PRIVATE``."""

MULTICAST = ("224.0.0.0/4", "ff00::/8")

METADATA = (
    "169.254.169.254/32",  # AWS, Azure, Google, OpenStack, Oracle, DigitalOcean
    "169.254.170.2/32",  # AWS: tasks
    "169.254.170.23/32",  # AWS: pods
    "100.100.100.200/32",  # Alibaba
    "fd00:ec2::254/128",  # AWS
    "fd00:ec2::23/128",  # AWS: pods
    "fd20:ce::254/128",  # Google
)
"""Where clouds hand out credentials."""

SERVICES: dict[str, tuple[str, ...]] = {
    "activemq": ("tcp/61616",),
    "amqp": ("tcp/5672",),
    "amqps": ("tcp/5671",),
    "bgp": ("tcp/179",),
    "cassandra": ("tcp/9042",),
    "clickhouse": ("tcp/8123", "tcp/9000"),
    "consul": ("tcp/8300-8302", "tcp/8500-8502", "udp/8301-8302"),
    "couchdb": ("tcp/5984",),
    "dhcp": ("udp/67-68",),
    "dhcpv6": ("udp/546-547",),
    "dns": ("tcp/53", "udp/53"),
    "dns-over-tls": ("tcp/853", "udp/853"),
    "docker": ("tcp/2375-2376",),
    "elasticsearch": ("tcp/9200", "tcp/9300"),
    "etcd": ("tcp/2379-2380",),
    "ftp": ("tcp/21",),
    "git": ("tcp/9418",),
    "grafana": ("tcp/3000",),
    "http": ("tcp/80",),
    "https": ("tcp/443",),
    "http3": ("udp/443",),
    "imap": ("tcp/143",),
    "imaps": ("tcp/993",),
    "influxdb": ("tcp/8086",),
    "ipsec": ("udp/500", "udp/4500"),
    "kafka": ("tcp/9092-9094",),
    "kerberos": ("tcp/88", "udp/88"),
    "kube-apiserver": ("tcp/6443",),
    "kubelet": ("tcp/10250",),
    "ldap": ("tcp/389", "udp/389"),
    "ldaps": ("tcp/636",),
    "loki": ("tcp/3100",),
    "mdns": ("udp/5353",),
    "memcached": ("tcp/11211", "udp/11211"),
    "mongodb": ("tcp/27017-27019",),
    "mqtt": ("tcp/1883",),
    "mqtts": ("tcp/8883",),
    "mssql": ("tcp/1433", "udp/1434"),
    "mysql": ("tcp/3306",),
    "nats": ("tcp/4222",),
    "nfs": ("tcp/2049", "udp/2049"),
    "node-exporter": ("tcp/9100",),
    "ntp": ("udp/123",),
    "openvpn": ("tcp/1194", "udp/1194"),
    "oracle": ("tcp/1521",),
    "otlp": ("tcp/4317-4318",),
    "ping": ("icmp/echo-request", "icmpv6/echo-request"),
    "pop3": ("tcp/110",),
    "pop3s": ("tcp/995",),
    "postgres": ("tcp/5432",),
    "prometheus": ("tcp/9090",),
    "rabbitmq": ("tcp/5671-5672", "tcp/15672", "tcp/25672"),
    "radius": ("udp/1812-1813",),
    "rdp": ("tcp/3389", "udp/3389"),
    "redis": ("tcp/6379",),
    "rsync": ("tcp/873",),
    "sip": ("tcp/5060-5061", "udp/5060-5061"),
    "smb": ("tcp/445",),
    "smtp": ("tcp/25",),
    "smtps": ("tcp/465",),
    "snmp": ("udp/161",),
    "snmp-trap": ("udp/162",),
    "ssh": ("tcp/22",),
    "statsd": ("udp/8125",),
    "submission": ("tcp/587",),
    "syslog": ("tcp/514", "udp/514"),
    "syslog-tls": ("tcp/6514",),
    "telnet": ("tcp/23",),
    "tftp": ("udp/69",),
    "traceroute": ("udp/33434-33534",),
    "vault": ("tcp/8200-8201",),
    "vnc": ("tcp/5900-5909",),
    "vxlan": ("udp/4789",),
    "winrm": ("tcp/5985-5986",),
    "wireguard": ("udp/51820",),
    "zookeeper": ("tcp/2181", "tcp/2888", "tcp/3888"),
}
"""Services under their usual names; ports as IANA registers them, or as the program listens by default."""


@cache
def policy() -> PolicySet:
    """Return everything that is built in, as one policy set."""
    return policy_set([*_services(), *_network_sets(), *_label_rules(), *_modes()])


@cache
def names(kind: str) -> frozenset[str]:
    """Return the names that are built in for a kind."""
    return frozenset(document.name for of, document in documents(policy()) if of == kind)


def complete(draft: PolicySet) -> PolicySet:
    """Return a policy set with the built-in documents that none of its own replaces."""
    own = {(kind, document.name) for kind, document in documents(draft)}
    brought = [document for kind, document in documents(policy()) if (kind, document.name) not in own]
    return policy_set([*brought, *(document for _, document in documents(draft))])


def own(complete_set: PolicySet) -> PolicySet:
    """Return a policy set without the built-in documents in it: what its author wrote."""
    brought = {kind: set(getattr(policy(), field)) for kind, field in FIELDS.items()}
    return policy_set(document for kind, document in documents(complete_set) if document not in brought[kind])


def _services() -> list[Service]:
    return [Service(name, tuple(sorted(map(ports_of, ports)))) for name, ports in SERVICES.items()]


def _network_sets() -> list[NetworkSet]:
    everywhere = _prefixes("0.0.0.0/0", "::/0")
    return [
        NetworkSet("world", everywhere, _prefixes(*SPECIAL, *MULTICAST)),
        NetworkSet("internet", everywhere, _prefixes(*SPECIAL, *MULTICAST, *PRIVATE)),
        NetworkSet("private", _prefixes(*PRIVATE)),
        NetworkSet(METADATA_SET, _prefixes(*METADATA)),
        NetworkSet(PER_HOST_SET),
    ]


def _prefixes(*written: str) -> tuple[Prefix, ...]:
    return tuple(sorted(map(Prefix, written)))


def _modes() -> list[EnforcementMode]:
    return [EnforcementMode(DEFAULT_MODE, ALL, Mode.VISIBILITY)]


def _label_rules() -> list[LabelRule]:
    compose = (("app", "{label:com.docker.compose.project}"), ("role", "{label:com.docker.compose.service}"))
    container = (("kind", "container"),)
    # A host reports these of itself: the agent puts what it knows of the system under os.* among the facts' labels.
    host = (("host", "{host}"), ("os", "{label:os.id}"))
    return [
        LabelRule("compose", compose, container, LabelSource.RUNTIME),
        # Whatever runs the workload may say so: a container engine, a lab, the agent for its own host.
        LabelRule("runtime-labels", (("{label:stockade.*}", "{label:stockade.*}"),), (), LabelSource.RUNTIME),
        LabelRule("host", host, (("kind", "host"),), LabelSource.SELF),
    ]
