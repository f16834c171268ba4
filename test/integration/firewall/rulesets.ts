/** Rules as hosts have them, made by a shell. */
import type { Version } from './packet-site'

export interface Ruleset {
  readonly name: string
  readonly rules: string
  /** Families in which the rules are tried; by default IPv4 alone. */
  readonly versions?: readonly Version[]
  /** Whether the model cannot decide on some of the rules. */
  readonly undecided?: boolean
}

const BOTH: readonly Version[] = ['ipv4', 'ipv6']
const nft = (text: string): string => `nft -f - <<'END'\n${text}\nEND`

const FIREWALLD = nft(`table inet firewalld {
  chain filter_INPUT {
    type filter hook input priority filter + 10; policy accept;
    ct state { established, related } accept
    ct status dnat accept
    iifname "lo" accept
    ct state invalid drop
    jump filter_INPUT_ZONES
    reject with icmpx admin-prohibited
  }
  chain filter_FORWARD {
    type filter hook forward priority filter + 10; policy accept;
    ct state { established, related } accept
    ct status dnat accept
    iifname "lo" accept
    ct state invalid drop
    jump filter_FORWARD_ZONES
    reject with icmpx admin-prohibited
  }
  chain filter_INPUT_ZONES {
    iifname "eth0" goto filter_IN_public
    goto filter_IN_public
  }
  chain filter_FORWARD_ZONES {
    iifname "docker0" goto filter_FWD_docker
    goto filter_FWD_public
  }
  chain filter_FWD_docker {
    oifname "eth0" accept
    accept
  }
  chain filter_FWD_public {
    jump filter_FWD_public_allow
    reject with icmpx admin-prohibited
  }
  chain filter_FWD_public_allow {
  }
  chain filter_IN_public {
    jump filter_IN_public_allow
    meta l4proto { icmp, ipv6-icmp } accept
  }
  chain filter_IN_public_allow {
    tcp dport 22 ct state new,untracked accept
    udp dport 8472-8473 accept
  }
}`)

const UFW = `
for p in iptables ip6tables; do
  $p -N ufw-before-input; $p -N ufw-before-forward; $p -N ufw-user-input; $p -N ufw-user-forward; $p -N ufw-reject-forward
  $p -A ufw-before-input -i lo -j ACCEPT
  $p -A ufw-before-input -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
  $p -A ufw-before-input -m conntrack --ctstate INVALID -j DROP
  $p -A ufw-before-input -j ufw-user-input
  $p -A ufw-user-input -p udp -m multiport --dports 53,8472:8473 -j ACCEPT
  $p -A ufw-before-forward -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
  $p -A ufw-before-forward -j ufw-user-forward
  $p -A INPUT -j ufw-before-input
  $p -A FORWARD -j ufw-before-forward
  $p -P INPUT DROP; $p -P FORWARD DROP
done
iptables -I ufw-before-forward 2 -p icmp -m icmp --icmp-type 8 -j ACCEPT
ip6tables -I INPUT -p ipv6-icmp -j ACCEPT
ip6tables -I ufw-before-forward 2 -p ipv6-icmp -m icmp6 --icmpv6-type echo-request -j ACCEPT`

const DOCKER = `
iptables -N DOCKER; iptables -N DOCKER-USER; iptables -N DOCKER-ISOLATION-STAGE-1; iptables -N DOCKER-ISOLATION-STAGE-2
iptables -A FORWARD -j DOCKER-USER
iptables -A FORWARD -j DOCKER-ISOLATION-STAGE-1
iptables -A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
iptables -A FORWARD -o docker0 -j DOCKER
iptables -A FORWARD -i docker0 ! -o docker0 -j ACCEPT
iptables -A FORWARD -i docker0 -o docker0 -j ACCEPT
iptables -A DOCKER-ISOLATION-STAGE-1 -i docker0 ! -o docker0 -j DOCKER-ISOLATION-STAGE-2
iptables -A DOCKER-ISOLATION-STAGE-1 -j RETURN
iptables -A DOCKER-ISOLATION-STAGE-2 -o br-12345 -j DROP
iptables -A DOCKER-ISOLATION-STAGE-2 -j RETURN
iptables -A DOCKER-USER -j RETURN
iptables -P FORWARD DROP`

const DOCKER_28 = `${DOCKER}
iptables -A DOCKER ! -i docker0 -o docker0 -j DROP
iptables -t raw -A PREROUTING -d 10.5.1.2/32 ! -i docker0 -j DROP`

/** Docker's own tables of nftables, as version 29 has them. */
const DOCKER_29 = nft(`table ip docker-bridges {
  map filter-forward-in-jumps { type ifname : verdict; elements = { "docker0" : jump filter-forward-in__docker0 } }
  map filter-forward-out-jumps { type ifname : verdict; elements = { "docker0" : jump filter-forward-out__docker0 } }
  chain filter-FORWARD {
    type filter hook forward priority filter; policy accept;
    oifname vmap @filter-forward-in-jumps
    iifname vmap @filter-forward-out-jumps
  }
  chain filter-forward-in__docker0 {
    ct state established,related counter accept
    iifname "docker0" counter accept comment "ICC"
    counter drop comment "UNPUBLISHED PORT DROP"
  }
  chain filter-forward-out__docker0 {
    ct state established,related counter accept
    counter accept comment "OUTGOING"
  }
  chain raw-PREROUTING {
    type filter hook prerouting priority raw; policy accept;
  }
}`)

const KUBE_PROXY = `
iptables -N KUBE-FORWARD; iptables -N KUBE-FIREWALL; iptables -N KUBE-PROXY-FIREWALL; iptables -N KUBE-SERVICES
iptables -A INPUT -m conntrack --ctstate NEW -j KUBE-PROXY-FIREWALL
iptables -A INPUT -j KUBE-FIREWALL
iptables -A FORWARD -m conntrack --ctstate NEW -j KUBE-PROXY-FIREWALL
iptables -A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD
iptables -A FORWARD -m conntrack --ctstate NEW -j KUBE-SERVICES
iptables -A KUBE-FIREWALL ! -s 127.0.0.0/8 -d 127.0.0.0/8 -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP
iptables -A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
iptables -A KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT
iptables -A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
iptables -A KUBE-SERVICES -d 10.96.0.10/32 -p tcp -m tcp --dport 53 -j REJECT
iptables -t nat -N KUBE-POSTROUTING; iptables -t nat -N KUBE-MARK-MASQ
iptables -t nat -A POSTROUTING -j KUBE-POSTROUTING
iptables -t nat -A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
iptables -t nat -A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0
iptables -t nat -A KUBE-POSTROUTING -j MASQUERADE --random-fully`

const CATCH_ALL = `
iptables -A INPUT -m state --state RELATED,ESTABLISHED -j ACCEPT
iptables -A INPUT -p icmp -j ACCEPT
iptables -A INPUT -i lo -j ACCEPT
iptables -A INPUT -p tcp -m state --state NEW -m tcp --dport 22 -j ACCEPT
iptables -A INPUT -j REJECT --reject-with icmp-host-prohibited`

export const RULESETS: readonly Ruleset[] = [
  { name: 'none', rules: 'true', versions: BOTH },
  {
    name: 'a reject at the end of FORWARD',
    rules: 'iptables -A FORWARD -j REJECT --reject-with icmp-host-prohibited',
  },
  { name: 'a reject at the end of INPUT', rules: CATCH_ALL },
  {
    name: 'a reject at the end of FORWARD after an accept of ours',
    rules:
      'iptables -A FORWARD -s 10.5.0.0/16 -j ACCEPT; iptables -A FORWARD -d 10.5.0.0/16 -j ACCEPT; iptables -A FORWARD -j REJECT',
  },
  { name: 'firewalld', rules: FIREWALLD, versions: BOTH },
  {
    name: 'firewalld that trusts the device',
    rules: `${FIREWALLD}\nnft 'insert rule inet firewalld filter_FORWARD_ZONES iifname "flannel*" accept'`,
    versions: BOTH,
  },
  { name: 'ufw', rules: UFW, versions: BOTH },
  { name: 'Docker 20', rules: DOCKER },
  { name: 'Docker 28', rules: DOCKER_28 },
  {
    name: 'Docker 28 with our hooks',
    rules: `${DOCKER_28}
iptables -t raw -I PREROUTING -s 10.5.0.0/16 -i flannel.1 -j ACCEPT
iptables -I DOCKER-USER -s 10.5.0.0/16 -i flannel.1 -j ACCEPT
iptables -I DOCKER-USER -d 10.5.0.0/16 -o flannel.1 -j ACCEPT`,
  },
  { name: 'Docker 29 with nftables', rules: DOCKER_29 },
  {
    name: 'Docker 29 with nftables, both options and our mark',
    rules: `${DOCKER_29}
nft 'insert rule ip docker-bridges filter-forward-in__docker0 meta mark and 0x1000 == 0x1000 counter accept'
nft 'table ip overlayd-docker { chain prerouting { type filter hook prerouting priority mangle; }; }'
nft 'add rule ip overlayd-docker prerouting iifname "flannel.1" ip saddr 10.5.0.0/16 meta mark set meta mark or 0x1000'`,
  },
  { name: 'kube-proxy', rules: `${KUBE_PROXY}\niptables -P FORWARD DROP` },
  {
    name: 'kube-proxy, and a mark that lets through what comes from a container',
    rules: `${KUBE_PROXY}
iptables -P FORWARD DROP
iptables -t mangle -A PREROUTING -i docker0 -j MARK --set-xmark 0x4000/0x4000`,
  },
  {
    name: 'iptables-legacy beside iptables-nft: a drop in either is final',
    rules:
      'iptables -A FORWARD -j ACCEPT; iptables-legacy -A FORWARD -p udp -j DROP; iptables-legacy -A FORWARD -i docker0 -p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -j DROP',
  },
  {
    name: 'an accept in one table of nft does not undo the drop of another',
    rules: nft(
      `table inet one { chain f { type filter hook forward priority -10; policy accept; accept; }; }
table ip two { chain f { type filter hook forward priority 10; policy drop; ct state established accept; iifname "docker0" ip protocol icmp accept; }; }`
        .replaceAll('; ', '\n')
        .replaceAll('{ ', '{\n')
        .replaceAll('}\n', '}\n'),
    ),
  },
  {
    name: 'sets with intervals, concatenations, negations and maps',
    rules: nft(`table inet s {
  set nets { type ipv4_addr; flags interval; elements = { 10.5.2.0-10.5.2.255, 172.16.0.0/12 } }
  set pairs { type ipv4_addr . inet_service; elements = { 10.5.2.2 . 41952 } }
  map fate { type inet_proto : verdict; elements = { tcp : jump tcps, icmp : accept } }
  chain tcps { ip daddr . tcp dport @pairs accept
    ip saddr . tcp sport @pairs accept
  }
  chain f {
    type filter hook forward priority 0; policy drop;
    ip saddr != { 10.5.0.0/16, 192.0.2.1 } drop
    meta l4proto vmap @fate
    ip saddr @nets udp dport 41952 accept
    ct state != { new, invalid } accept
  }
}`),
  },
  {
    name: 'marks that are set before, and bits of them',
    rules: nft(`table ip m {
  chain pre {
    type filter hook prerouting priority mangle; policy accept;
    iifname "docker0" meta mark set meta mark | 0x30
    iifname "flannel.1" ip protocol udp meta mark set 0x130
    meta mark & 0x10 == 0x10 meta mark set meta mark & 0xffffffef
  }
  chain f {
    type filter hook forward priority 0; policy accept;
    meta mark & 0x100 != 0 drop
    meta mark 0x20 ip protocol tcp drop
  }
}`),
  },
  {
    name: 'a mark of a container is on the packet around it, and the other way round',
    rules: nft(`table ip m {
  chain pre {
    type filter hook prerouting priority mangle; policy accept;
    iifname "docker0" ip protocol tcp meta mark set 7
    iifname "eth0" udp dport 8472 meta mark set 9
  }
  chain out {
    type filter hook output priority 0; policy accept;
    udp dport 8472 meta mark 7 drop
  }
  chain f {
    type filter hook forward priority 0; policy accept;
    iifname "flannel.1" ip protocol udp meta mark 9 drop
  }
}`),
  },
  {
    name: 'the UDP packets: allowed from one network, on one interface',
    rules: nft(`table inet u {
  chain in {
    type filter hook input priority 0; policy drop;
    iifname "eth*" ip saddr 192.0.2.0/25 udp dport { 4789, 8472 } accept
    iifname "eth*" ip6 nexthdr ipv6-icmp accept
  }
  chain out {
    type filter hook output priority 0; policy drop;
    oifname "eth0" ip daddr 192.0.2.2 udp dport 8472 accept
    ip6 nexthdr ipv6-icmp accept
  }
}`),
    versions: BOTH,
  },
  {
    name: 'the UDP packets dropped in raw PREROUTING',
    rules: 'iptables -t raw -A PREROUTING -i eth0 -p udp -m udp --dport 8472 -j DROP',
  },
  {
    name: 'the UDP packets dropped on their way out in mangle POSTROUTING',
    rules: 'iptables -t mangle -A POSTROUTING -o eth+ -p udp --dport 8472 -j DROP',
  },
  {
    name: 'fib and connection states in raw',
    rules: nft(`table inet r {
  chain pre {
    type filter hook prerouting priority raw; policy accept;
    fib daddr type local udp dport 8472 accept
    fib saddr . iif oif missing drop
    iifname "flannel*" fib daddr type != unicast drop
  }
  chain f {
    type filter hook forward priority security; policy accept;
    ct state vmap { established : accept, related : accept, invalid : drop }
    iifname "flannel*" meta l4proto { udp, tcp } th dport 1024-65535 reject
  }
}`),
    versions: BOTH,
  },
  {
    name: 'untracked packets',
    rules: nft(`table ip t {
  chain pre {
    type filter hook prerouting priority raw; policy accept;
    ip protocol udp notrack
  }
  chain f {
    type filter hook forward priority 0; policy accept;
    ct state { new, established } accept
    drop
  }
}`),
  },
  {
    name: 'frames on the bridge',
    rules: nft(`table bridge b {
  chain in {
    type filter hook input priority 0; policy accept;
    iifname "port1" ip protocol udp drop
  }
  chain out {
    type filter hook postrouting priority 0; policy accept;
    oifname "port1" ip saddr 10.5.2.2 tcp sport 41952 drop
    oifname "port2" drop
  }
}`),
  },
  {
    name: 'a device that is left and entered',
    // This version of nft does not show the device of a netdev chain.
    undecided: true,
    rules: nft(`table netdev d {
  chain in {
    type filter hook ingress device flannel.1 priority 0; policy accept;
    ip protocol icmp icmp type echo-reply drop
  }
}`),
  },
  {
    name: 'jumps, gotos and returns',
    rules: nft(`table ip j {
  chain a { ip protocol icmp return
    goto b
  }
  chain b { ip protocol tcp return
    drop
  }
  chain c { ip protocol icmp accept
    drop
  }
  chain f {
    type filter hook forward priority 0; policy accept;
    jump a
    ip protocol tcp iifname "docker0" goto c
    ip protocol icmp iifname "docker0" goto c
  }
}`),
  },
  {
    name: 'masquerading leaves what passes as it is',
    rules: 'iptables -t nat -A POSTROUTING -s 10.5.1.0/24 ! -o docker0 -j MASQUERADE',
  },
  {
    name: 'the UDP packets led to another port',
    // A known connection is not translated again.
    rules: `while grep -q 'dport=8472' /proc/net/nf_conntrack 2>/dev/null; do sleep 0.2; done
iptables -t nat -A PREROUTING -p udp --dport 8472 -j REDIRECT --to-ports 9999
iptables -A INPUT -p udp --dport 9999 -j DROP`,
  },
  {
    name: 'VXLAN of another network dropped',
    versions: BOTH,
    rules: nft(`table inet v {
  chain i {
    type filter hook input priority raw; policy accept;
    udp dport 8472-8473 @th,96,24 9 drop
    frag frag-off 0 drop
  }
}`),
  },
  {
    name: 'VXLAN of this network dropped',
    versions: BOTH,
    rules: nft(`table inet v {
  chain o {
    type filter hook output priority raw; policy accept;
    udp dport 8472-8473 @th,96,24 1 drop
  }
}`),
  },
  {
    name: 'limits and matches that nobody can decide',
    rules: `iptables -A FORWARD -p tcp -m limit --limit 1000/second --limit-burst 1000 -j ACCEPT
iptables -A FORWARD -p udp -m length --length 0:20 -j DROP
iptables -A FORWARD -p tcp -j DROP`,
    undecided: true,
  },
]
