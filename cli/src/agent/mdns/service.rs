//! The DNS records that this agent announces, and the member that another agent's answer describes.

use std::net::{IpAddr, SocketAddr};

use super::message::{Data, Message, Name, Question, Record, kind, response};

/// Seconds for which others may keep a record: hashicorp/mdns's value.
const TIME_TO_LIVE: u32 = 120;
/// Most questions of a packet that are answered, and most members that are taken of one.
const QUESTIONS_ANSWERED_MAX: usize = 4;
const FOUND_MAX: usize = 32;

/// The name under which the members of the cluster `discover` look for each other.
///
/// # Errors
/// Why DNS can't hold it.
pub(super) fn service_name(discover: &str) -> Result<Name, String> {
    Name::of(&format!("_serf_{discover}._tcp.local"))
}

/// This agent's records.
pub(super) struct Service {
    /// Of all services in the network.
    enumeration: Name,
    service: Name,
    instance: Name,
    host: Name,
    addr: SocketAddr,
    text: Vec<u8>,
}

impl Service {
    /// The records of the member `node` at `addr` of the cluster `discover`, on this host.
    ///
    /// # Errors
    /// Why DNS can't hold one of the names.
    pub(super) fn new(node: &str, discover: &str, host: &str, addr: SocketAddr) -> Result<Service, String> {
        let about = format!("Serf '{discover}' cluster");
        let service = service_name(discover)?;
        let text = [&[about.len() as u8], about.as_bytes()].concat();
        Ok(Service {
            enumeration: Name::of("_services._dns-sd._udp.local")?,
            service,
            instance: Name::of(&format!("{node}._serf_{discover}._tcp.local"))?,
            host: Name::of(host)?,
            addr,
            text,
        })
    }

    /// The answers to a query: what everybody may see, and what the asker alone wants. hashicorp/mdns sends both to
    /// the asker, the first without the query's number.
    pub(super) fn answers(&self, query: &Message) -> Vec<Vec<u8>> {
        if !query.is_query {
            return Vec::new();
        }
        let mut records = [Vec::new(), Vec::new()];
        let asked = query.questions.iter().map(|question| (question.unicast, self.records(question)));
        for (unicast, of) in asked.filter(|(_, of)| !of.is_empty()).take(QUESTIONS_ANSWERED_MAX) {
            records[usize::from(unicast)].extend(of);
        }
        let with_id = [0, query.id].into_iter().zip(&records).filter(|(_, records)| !records.is_empty());
        with_id.map(|(id, records)| response(id, TIME_TO_LIVE, records)).collect()
    }

    fn records(&self, question: &Question) -> Vec<Record> {
        let (name, asked) = (&question.name, question.kind);
        let wants = |of: u16| asked == of || asked == kind::ANY;
        let pointer = |of: &Name, to: &Name| Record { name: of.clone(), data: Data::Pointer(to.clone()) };
        if *name == self.enumeration && wants(kind::PTR) {
            return vec![pointer(name, &self.service)];
        }
        if *name == self.service && wants(kind::PTR) {
            let mut records = vec![pointer(name, &self.instance)];
            records.extend(self.of_instance(kind::ANY));
            return records;
        }
        match asked {
            _ if *name == self.instance => self.of_instance(asked),
            kind::A | kind::AAAA if *name == self.host => self.of_instance(asked),
            _ => Vec::new(),
        }
    }

    fn of_instance(&self, asked: u16) -> Vec<Record> {
        let wants = |of: u16| asked == of || asked == kind::ANY;
        let mut records = Vec::new();
        if wants(kind::SRV) {
            let data = Data::Service { port: self.addr.port(), target: self.host.clone() };
            records.push(Record { name: self.instance.clone(), data });
        }
        // The address comes with the service that it belongs to.
        let family = if self.addr.is_ipv4() { kind::A } else { kind::AAAA };
        if wants(family) || wants(kind::SRV) {
            records.push(Record { name: self.host.clone(), data: Data::Address(self.addr.ip()) });
        }
        if wants(kind::TXT) {
            records.push(Record { name: self.instance.clone(), data: Data::Text(self.text.clone()) });
        }
        records
    }
}

/// The members of a service that a response tells of: those whose pointer, service and address it has. Unlike Serf,
/// which takes any service's, only members that the pointers of `service` name.
pub(super) fn found(service: &Name, response: &Message) -> Vec<SocketAddr> {
    let records = &response.records;
    let instances = records.iter().filter_map(|record| match &record.data {
        Data::Pointer(instance) if record.name == *service => Some(instance),
        _ => None,
    });
    let address_of = |instance: &Name| {
        let (port, target) = records.iter().find_map(|record| match &record.data {
            Data::Service { port, target } if record.name == *instance => Some((*port, target)),
            _ => None,
        })?;
        // As in Serf the last one counts.
        let ip: IpAddr = records.iter().rev().find_map(|record| match &record.data {
            Data::Address(ip) if record.name == *target => Some(*ip),
            _ => None,
        })?;
        let can_be_joined = port != 0 && !ip.is_unspecified() && !ip.is_multicast();
        can_be_joined.then(|| SocketAddr::new(ip.to_canonical(), port))
    };
    instances.filter_map(address_of).take(FOUND_MAX).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::agent::mdns::message::{query, read};

    fn service(addr: &str) -> Service {
        Service::new("n.1", "x", "vm", addr.parse().unwrap()).unwrap()
    }

    fn asked(name: &str, kind: u16, unicast: bool) -> Message {
        let mut message = read(&query(0x1234, &Name::of(name).unwrap())).unwrap();
        (message.questions[0].kind, message.questions[0].unicast) = (kind, unicast);
        message
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// What Serf 0.9.4 answered as member "n.1" of the cluster "x" on host "vm".
    const SERFS: [(&str, &str, u16, bool, &str); 10] = [
        (
            "10.41.0.1:7946",
            "_serf_x._tcp.local",
            kind::PTR,
            false,
            "000084000000000400000000075f736572665f78045f746370056c6f63616c00000c0001000000780006016e0131c00cc02a0021000100000078000a000a00011f0a02766d00c042000100010000007800040a290001c02a0010000100000078001110536572662027782720636c7573746572",
        ),
        (
            "10.41.0.1:7946",
            "_serf_x._tcp.local",
            kind::PTR,
            true,
            "123484000000000400000000075f736572665f78045f746370056c6f63616c00000c0001000000780006016e0131c00cc02a0021000100000078000a000a00011f0a02766d00c042000100010000007800040a290001c02a0010000100000078001110536572662027782720636c7573746572",
        ),
        (
            "[fd41::1]:7946",
            "_serf_x._tcp.local",
            kind::PTR,
            false,
            "000084000000000400000000075f736572665f78045f746370056c6f63616c00000c0001000000780006016e0131c00cc02a0021000100000078000a000a00011f0a02766d00c042001c0001000000780010fd410000000000000000000000000001c02a0010000100000078001110536572662027782720636c7573746572",
        ),
        (
            "10.41.0.1:7946",
            "_serf_x._tcp.local",
            kind::ANY,
            false,
            "000084000000000400000000075f736572665f78045f746370056c6f63616c00000c0001000000780006016e0131c00cc02a0021000100000078000a000a00011f0a02766d00c042000100010000007800040a290001c02a0010000100000078001110536572662027782720636c7573746572",
        ),
        (
            "10.41.0.1:7946",
            "n.1._serf_x._tcp.local",
            kind::ANY,
            false,
            "000084000000000300000000016e0131075f736572665f78045f746370056c6f63616c000021000100000078000a000a00011f0a02766d00c034000100010000007800040a290001c00c0010000100000078001110536572662027782720636c7573746572",
        ),
        (
            "10.41.0.1:7946",
            "n.1._serf_x._tcp.local",
            kind::A,
            false,
            "00008400000000010000000002766d00000100010000007800040a290001",
        ),
        (
            "10.41.0.1:7946",
            "n.1._serf_x._tcp.local",
            kind::TXT,
            false,
            "000084000000000100000000016e0131075f736572665f78045f746370056c6f63616c000010000100000078001110536572662027782720636c7573746572",
        ),
        (
            "10.41.0.1:7946",
            "n.1._serf_x._tcp.local",
            kind::SRV,
            false,
            "000084000000000200000000016e0131075f736572665f78045f746370056c6f63616c000021000100000078000a000a00011f0a02766d00c034000100010000007800040a290001",
        ),
        (
            "10.41.0.1:7946",
            "_services._dns-sd._udp.local",
            kind::PTR,
            false,
            "000084000000000100000000095f7365727669636573075f646e732d7364045f756470056c6f63616c00000c000100000078000f075f736572665f78045f746370c023",
        ),
        (
            "10.41.0.1:7946",
            "vm",
            kind::A,
            false,
            "00008400000000010000000002766d00000100010000007800040a290001",
        ),
    ];

    #[test]
    fn answers_are_serfs_bytes() {
        for (addr, name, kind, unicast, expected) in SERFS {
            let answers = service(addr).answers(&asked(name, kind, unicast));
            assert_eq!(
                answers.iter().map(|answer| hex(answer)).collect::<Vec<_>>(),
                [expected],
                "{name} {kind}"
            );
        }
    }

    #[test]
    fn what_serf_does_not_answer_is_not_answered() {
        let service = service("10.41.0.1:7946");
        let asked_of = [
            ("_serf_x._tcp.local", kind::A),
            ("_serf_x._tcp.local", kind::TXT),
            ("n.1._serf_x._tcp.local", kind::PTR),
            ("n.1._serf_x._tcp.local", kind::AAAA),
            ("vm", kind::ANY),
            ("vm", kind::AAAA),
            ("_serf_X._tcp.local", kind::PTR),
            ("_serf_xx._tcp.local", kind::PTR),
        ];
        for (name, kind) in asked_of {
            assert!(service.answers(&asked(name, kind, false)).is_empty(), "{name} {kind}");
        }
        for response in [true, false] {
            let message = Message { is_query: false, is_response: response, ..asked("vm", kind::A, false) };
            assert!(service.answers(&message).is_empty());
        }
    }

    #[test]
    fn a_packet_of_many_questions_gets_a_bounded_answer() {
        let mut many = asked("_serf_x._tcp.local", kind::PTR, false);
        many.questions = vec![many.questions[0].clone(); 64];
        let answers = service("10.41.0.1:7946").answers(&many);
        assert_eq!(read(&answers[0]).unwrap().records.len(), 4 * QUESTIONS_ANSWERED_MAX);
    }

    #[test]
    fn an_answer_tells_of_members_of_its_own_cluster_only() {
        let answer =
            |addr| read(&service(addr).answers(&asked("_serf_x._tcp.local", kind::PTR, false))[0]).unwrap();
        for addr in ["10.41.0.1:7946", "[fd41::1]:7946"] {
            assert_eq!(found(&service_name("x").unwrap(), &answer(addr)), [addr.parse().unwrap()]);
            assert!(found(&service_name("y").unwrap(), &answer(addr)).is_empty());
        }
        for impossible in ["0.0.0.0:7946", "10.41.0.1:0", "224.0.0.1:7946"] {
            assert!(found(&service_name("x").unwrap(), &answer(impossible)).is_empty(), "{impossible}");
        }
        let whole = answer("10.41.0.1:7946");
        for missing in 0..3 {
            let mut part = whole.clone();
            part.records.remove(missing);
            assert!(found(&service_name("x").unwrap(), &part).is_empty(), "without record {missing}");
        }
    }

    #[test]
    fn names_that_dns_cannot_hold_are_refused() {
        assert!(service_name(&"x".repeat(57)).is_ok() && service_name(&"x".repeat(58)).is_err());
        let addr = "10.41.0.1:7946".parse().unwrap();
        assert!(Service::new(&"n".repeat(64), "x", "vm", addr).is_err());
    }
}
