//! Where a file of discarded records comes from: this machine's disk, or the node that keeps it.

use std::io::{BufReader, Read};
use std::path::Path;

use anyhow::{Context as _, bail};

use super::FileArgs;
use super::given_up::{Chosen, GivenUp};
use crate::cli::answers::{Cluster, Discards, Member};
use crate::cli::http_client::{HttpClient, HttpError};
use crate::keyspace::{Effect, EffectIter};
use crate::wal::{
    ChainPoint, DiscardedError, DiscardedName, DiscardedReader, FileBytes, Kind, ReadOnlyDisk,
    RecordRef,
};

/// An opened file, its header checked.
pub(super) struct Source {
    /// What to call it.
    pub(super) label: String,
    /// The node it was taken from; none for a file of this machine.
    pub(super) node: Option<u32>,
    reader: DiscardedReader<Box<dyn Read>>,
}

impl Source {
    /// Finds and opens the file that `args` name.
    pub(super) fn open(args: &FileArgs) -> anyhow::Result<Source> {
        let base = args.file.file_name().and_then(|name| name.to_str());
        let name = base.and_then(DiscardedName::parse);
        if let Some(dir) = &args.data_dir {
            let Some(name) = name else {
                bail!(
                    "{} is no name of a file with discarded records; `understudy discarded list \
                     --data-dir {}` shows them",
                    args.file.display(),
                    dir.display()
                );
            };
            return Source::on_disk(&dir.join("discarded").join(name.to_string()), Some(name));
        }
        if args.file.exists() {
            return Source::on_disk(&args.file, name);
        }
        // `history` names a file by its path on the node that keeps it.
        let Some(name) = name else {
            bail!(
                "{} is neither a file here nor a name that `understudy discarded list` shows",
                args.file.display()
            );
        };
        Source::of_a_node(&HttpClient::from_args(&args.connect())?, name)
    }

    fn on_disk(path: &Path, name: Option<DiscardedName>) -> anyhow::Result<Source> {
        let label = path.display().to_string();
        let file = FileBytes::open(&ReadOnlyDisk, path).with_context(|| label.clone())?;
        Source::new(label, None, Box::new(file), name)
    }

    fn of_a_node(client: &HttpClient, name: DiscardedName) -> anyhow::Result<Source> {
        let asked = ask_all(client)?;
        let has = |discards: &Discards| {
            discards
                .files
                .iter()
                .any(|file| file.name == name.to_string())
        };
        let mut silent = Vec::new();
        for Asked { id, answer } in asked {
            match answer {
                Ok((client, discards)) if has(&discards) => {
                    let label = format!("{name} on node {id}");
                    let body = client.download(&format!("/discarded/{name}"))?;
                    return Source::new(label, Some(id), Box::new(body), Some(name));
                }
                Ok(_) => {}
                Err(why) => silent.push(format!("node {id} could not be asked: {why}")),
            }
        }
        let silent = match silent.as_slice() {
            [] => String::new(),
            some => format!(" ({})", some.join("; ")),
        };
        bail!(
            "no node that could be asked has {name}{silent}; `understudy discarded list` shows \
             what there is"
        )
    }

    fn new(
        label: String,
        node: Option<u32>,
        input: Box<dyn Read>,
        name: Option<DiscardedName>,
    ) -> anyhow::Result<Source> {
        let input: Box<dyn Read> = Box::new(BufReader::with_capacity(1 << 18, input));
        let reader = DiscardedReader::new(input, name).with_context(|| label.clone())?;
        Ok(Source {
            label,
            node,
            reader,
        })
    }

    /// The cluster whose records these are, in hexadecimal.
    pub(super) fn cluster(&self) -> String {
        format!("{:032x}", self.reader.cluster())
    }

    /// The last record that both histories share.
    pub(super) fn fork(&self) -> ChainPoint {
        self.reader.fork()
    }

    /// Reads all records, giving each with its effects to `visit`, and sums up the `chosen` keys.
    /// What came before an error has been visited.
    pub(super) fn read(
        mut self,
        chosen: &Chosen,
        mut visit: impl FnMut(&RecordRef<'_>, &[Effect<'_>]),
    ) -> (GivenUp, Result<(), anyhow::Error>) {
        let mut given_up = GivenUp::default();
        let read = loop {
            let record = match self.reader.next_record() {
                Ok(Some(record)) => record,
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            };
            if record.kind != Kind::Effects {
                visit(&record, &[]);
                continue;
            }
            let effects: Result<Vec<Effect<'_>>, _> = EffectIter::new(record.payload).collect();
            match effects {
                Ok(effects) => {
                    for effect in &effects {
                        given_up.take(record.lsn, effect, chosen);
                    }
                    visit(&record, &effects);
                }
                Err(error) => {
                    let why = format!("LSN {} is not understood: {error}", record.lsn);
                    let error = std::io::Error::new(std::io::ErrorKind::InvalidData, why);
                    break Err(DiscardedError::Io(error));
                }
            }
        };
        (given_up, read.context(self.label))
    }
}

/// What one member answered.
pub(super) struct Asked {
    pub(super) id: u32,
    /// Its client and its list; why not, else.
    pub(super) answer: Result<(HttpClient, Discards), String>,
}

/// Asks every data node that `/cluster` names for its list, the one at `client`'s address included.
pub(super) fn ask_all(client: &HttpClient) -> Result<Vec<Asked>, HttpError> {
    let cluster: Cluster = client.get("/cluster")?;
    let data_nodes = cluster
        .members
        .iter()
        .filter(|member| member.kind != "witness");
    let ask = |member: &Member| {
        let own = cluster.answered_by == Some(member.id);
        let client = match &member.http_addr {
            _ if own => client.clone(),
            Some(addr) => client.at(addr),
            None => {
                let asked = cluster.answered_by.unwrap_or_default();
                return Err(format!("node {asked} knows no http_addr of it"));
            }
        };
        let discards = client
            .get("/discarded")
            .map_err(|error| error.to_string())?;
        Ok((client, discards))
    };
    let asked = data_nodes.map(|member| Asked {
        id: member.id,
        answer: ask(member),
    });
    Ok(asked.collect())
}
