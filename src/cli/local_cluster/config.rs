//! What a cluster of local processes looks like, and the TOML each node is given.

use std::net::SocketAddr;
use std::path::Path;

use super::Addresses;

/// The shape of a cluster, common to all its nodes.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The cluster's name, as clients ask Sentinel for it.
    pub name: String,
    /// Data nodes, numbered from 1.
    pub data_nodes: u32,
    /// Whether a witness follows them, with the next number.
    pub witness: bool,
    /// `async`, `semi-sync` or `sync`.
    pub mode: String,
    /// `received`, `synced` or `applied`; `None` leaves the mode's own.
    pub level: Option<String>,
    /// Copies in sync mode; `None` leaves the default.
    pub copies: Option<u32>,
    /// The loss budget of automatic takeover, as written in TOML; `None` leaves the default, 0.
    pub max_loss: Option<String>,
    /// More keys, as TOML text appended after the tables above, such as `[heartbeat]` or `[wal]`.
    pub more_toml: String,
}

impl Plan {
    /// Three data nodes in sync mode: any one machine may go, and writes go on.
    pub fn three_data_nodes(name: &str) -> Plan {
        Plan {
            name: name.to_owned(),
            data_nodes: 3,
            witness: false,
            mode: "sync".to_owned(),
            level: None,
            copies: None,
            max_loss: None,
            more_toml: String::new(),
        }
    }

    /// Two data nodes and a witness, semi-sync with level synced.
    pub fn pair_with_witness(name: &str) -> Plan {
        Plan {
            data_nodes: 2,
            witness: true,
            mode: "semi-sync".to_owned(),
            level: Some("synced".to_owned()),
            ..Plan::three_data_nodes(name)
        }
    }

    /// All members' numbers, the witness last.
    pub fn ids(&self) -> impl Iterator<Item = u32> + use<> {
        1..=self.data_nodes + u32::from(self.witness)
    }

    /// Whether this member only votes.
    pub fn is_witness(&self, id: u32) -> bool {
        self.witness && id == self.data_nodes + 1
    }
}

/// The configuration file of node `id`, whose data is to live in `data_dir`.
pub(super) fn node_toml(
    plan: &Plan,
    id: u32,
    data_dir: &Path,
    addresses: impl Fn(u32) -> Addresses,
) -> String {
    let own = addresses(id);
    let mut toml = format!(
        "id = {id}\ndata_dir = {}\n",
        quoted(&data_dir.to_string_lossy())
    );
    toml.push_str(&address_keys(&own));
    toml.push_str(&format!(
        "\n[cluster]\nname = {}\nmode = {}\n",
        quoted(&plan.name),
        quoted(&plan.mode)
    ));
    if let Some(level) = &plan.level {
        toml.push_str(&format!("level = {}\n", quoted(level)));
    }
    if let Some(copies) = plan.copies {
        toml.push_str(&format!("copies = {copies}\n"));
    }
    if let Some(max_loss) = &plan.max_loss {
        toml.push_str(&format!("max_loss = {}\n", quoted(max_loss)));
    }
    for member in plan.ids() {
        let role = if plan.is_witness(member) {
            "witness"
        } else {
            "data"
        };
        toml.push_str(&format!(
            "\n[[cluster.member]]\nid = {member}\nrole = \"{role}\"\n"
        ));
        toml.push_str(&address_keys(&addresses(member)));
    }
    if !plan.more_toml.is_empty() {
        toml.push('\n');
        toml.push_str(&plan.more_toml);
    }
    toml
}

fn address_keys(addresses: &Addresses) -> String {
    let key = |name: &str, address: SocketAddr| format!("{name} = \"{address}\"\n");
    key("client_addr", addresses.client)
        + &key("peer_addr", addresses.peer)
        + &key("http_addr", addresses.http)
}

/// A TOML string, escaped.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some_addresses(id: u32) -> Addresses {
        let port =
            |offset: u32| SocketAddr::from(([127, 0, 0, 1], 20_000 + (id * 10 + offset) as u16));
        Addresses {
            client: port(0),
            peer: port(1),
            http: port(2),
        }
    }

    #[test]
    fn the_file_is_toml_that_lists_every_member() {
        let mut plan = Plan::pair_with_witness("it's \"mine\"");
        plan.max_loss = Some("500ms".to_owned());
        plan.more_toml = "[heartbeat]\ninterval = \"50ms\"\n".to_owned();
        let text = node_toml(&plan, 2, Path::new("/tmp/a \"b\""), some_addresses);
        let toml: toml::Table = text.parse().expect("it is TOML");
        assert_eq!(toml["id"].as_integer(), Some(2));
        assert_eq!(toml["data_dir"].as_str(), Some("/tmp/a \"b\""));
        assert_eq!(toml["client_addr"].as_str(), Some("127.0.0.1:20020"));
        let cluster = toml["cluster"].as_table().expect("[cluster]");
        assert_eq!(cluster["name"].as_str(), Some("it's \"mine\""));
        assert_eq!(cluster["mode"].as_str(), Some("semi-sync"));
        assert_eq!(cluster["level"].as_str(), Some("synced"));
        assert_eq!(cluster["max_loss"].as_str(), Some("500ms"));
        assert!(!cluster.contains_key("copies"));
        let members = cluster["member"].as_array().expect("[[cluster.member]]");
        let roles: Vec<_> = members
            .iter()
            .map(|member| member["role"].as_str())
            .collect();
        assert_eq!(roles, [Some("data"), Some("data"), Some("witness")]);
        assert_eq!(members[2]["http_addr"].as_str(), Some("127.0.0.1:20032"));
        assert_eq!(toml["heartbeat"]["interval"].as_str(), Some("50ms"));
    }
}
