//! Nodes from a CSV file: what each row is, and the domains that its columns name.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use csv::StringRecord;
use offtake_units::{CpuMilli, Mebibytes, Watts};
use toml::Spanned;

use crate::file::MAX_NODES;
use crate::file::bounded::{LineTooLong, Lines, unreadable};
use crate::file::fault::{Checked, Fault, at};
use crate::file::kinds::Accelerators;
use crate::file::suggest::did_you_mean;
use crate::file::syntax::{self, in_order};
use crate::file::templates::{Known, Size, level_named, node_kind_named};
use crate::file::tree::Tree;
use crate::file::values::{grouped, name_fault};
use crate::{AcceleratorKindIx, FleetError, NodeIx, NodeKind, NodeKindIx};

/// What a node list brings: rows in the order of their domains.
pub(super) struct Listed {
    rows: Vec<Row>,
    /// The level of each group, widest first.
    levels: Vec<usize>,
    /// Each group's name; a row's groups are numbers in here.
    group_names: Vec<String>,
    /// The kinds that arose from the rows, numbered after those of the fleet file.
    pub new_kinds: Vec<NodeKind>,
    pub size: Size,
}

struct Row {
    groups: Vec<u32>,
    kind: NodeKindIx,
    name: Option<String>,
}

/// How the kind of a row is found.
enum KindFrom {
    All(NodeKindIx),
    Column(usize),
    Parts { accelerator: usize, chips: usize, cpu: (usize, u64), memory: (usize, u64) },
}

/// What tells one kind from another where rows give the parts.
type Parts = (Option<AcceleratorKindIx>, u16, u32, u64);

pub(super) fn read(
    list: &syntax::NodeList,
    base_dir: &Path,
    known: &Known<'_>,
    accelerators: &Accelerators,
) -> Checked<Listed> {
    let path = base_dir.join(list.file.get_ref());
    let source = Lines::open(&path).map_err(|error| {
        let message =
            format!("`{}`: {}; the path is relative to the fleet file", list.file.get_ref(), unreadable(&error));
        at(&list.file, format!("{message} ({error})"))
    })?;
    let mut csv = csv::ReaderBuilder::new().from_reader(source);
    let shown = path.display().to_string();
    let header = csv.headers().cloned().map_err(|error| csv_fault(&shown, 1, error))?;
    csv.get_mut().refill();
    let mut rows = Rows::new(list, &header, known, accelerators, shown.clone())?;
    let mut record = StringRecord::new();
    while csv.read_record(&mut record).map_err(|error| csv_fault(&shown, csv.position().line(), error))? {
        csv.get_mut().refill();
        rows.add(&record)?;
    }
    rows.finish(&list.file)
}

/// Rows so far, and what is needed to read one.
struct Rows<'a> {
    file: String,
    header: &'a StringRecord,
    known: &'a Known<'a>,
    accelerators: &'a Accelerators,
    default_base: Option<Watts>,
    kind_from: KindFrom,
    name_column: Option<usize>,
    /// Level and column of each group.
    group_columns: Vec<(usize, usize)>,
    rows: Vec<Row>,
    names: HashMap<String, u64>,
    /// Groups by what is around them and their name.
    groups: HashMap<(u32, String), u32>,
    group_names: Vec<String>,
    /// The domains that the groups make, those that fill skipped levels included.
    domains: u64,
    kinds: BTreeMap<Parts, NodeKindIx>,
    new_kinds: Vec<NodeKind>,
}

/// The parent of the widest groups: the site.
const SITE: u32 = u32::MAX;

impl<'a> Rows<'a> {
    fn new(
        list: &syntax::NodeList,
        header: &'a StringRecord,
        known: &'a Known<'a>,
        accelerators: &'a Accelerators,
        file: String,
    ) -> Checked<Self> {
        let mut group_columns = Vec::new();
        for (level, column) in in_order(&list.domains) {
            let depth = level_named(level, known.levels)?;
            if depth == 0 {
                return Err(at(level, "the site itself: name columns for the levels below it"));
            }
            group_columns.push((depth, column_named(column, header)?));
        }
        group_columns.sort_unstable();
        Ok(Self {
            file,
            header,
            known,
            accelerators,
            default_base: list.base_watts.as_ref().map(|watts| known.values.part_watts(watts)).transpose()?,
            kind_from: kind_from(list, header, known)?,
            name_column: list.columns.name.as_ref().map(|name| column_named(name, header)).transpose()?,
            group_columns,
            rows: Vec::new(),
            names: HashMap::new(),
            groups: HashMap::new(),
            group_names: Vec::new(),
            domains: 0,
            kinds: BTreeMap::new(),
            new_kinds: Vec::new(),
        })
    }

    fn add(&mut self, record: &StringRecord) -> Checked<()> {
        if self.rows.len() >= MAX_NODES as usize {
            return Err(self.fault(record, None, format!("more than {} nodes: split the list", grouped(MAX_NODES))));
        }
        let kind = self.kind(record)?;
        let name = self.name_column.map(|column| self.node_name(record, column)).transpose()?;
        let mut groups = Vec::with_capacity(self.group_columns.len());
        let mut parent = SITE;
        let mut above = 0;
        for ix in 0..self.group_columns.len() {
            let (level, column) = self.group_columns[ix];
            let name = self.cell(record, column);
            if let Some(fault) = name_fault(name) {
                return Err(self.fault(record, Some(column), fault));
            }
            let next = self.group_names.len() as u32;
            parent = *self.groups.entry((parent, name.to_owned())).or_insert(next);
            if parent == next {
                self.group_names.push(name.to_owned());
                self.domains += (level - above) as u64;
            }
            above = level;
            groups.push(parent);
        }
        self.rows.push(Row { groups, kind, name });
        Ok(())
    }

    fn node_name(&mut self, record: &StringRecord, column: usize) -> Checked<String> {
        let name = self.cell(record, column).to_owned();
        if let Some(fault) = name_fault(&name) {
            return Err(self.fault(record, Some(column), fault));
        }
        let line = line_of(record);
        if let Some(first) = self.names.insert(name.clone(), line) {
            return Err(self.fault(
                record,
                Some(column),
                format!("`{name}` is the name of the node in line {first} too"),
            ));
        }
        Ok(name)
    }

    fn kind(&mut self, record: &StringRecord) -> Checked<NodeKindIx> {
        match self.kind_from {
            KindFrom::All(kind) => Ok(kind),
            KindFrom::Column(column) => {
                let name = self.cell(record, column);
                let kinds = self.known.node_kinds;
                kinds.iter().position(|kind| kind.name == name).map(|ix| NodeKindIx(ix as u32)).ok_or_else(|| {
                    let hint = did_you_mean(name, kinds.iter().map(|kind| kind.name.as_str()));
                    self.fault(
                        record,
                        Some(column),
                        format!("`{}` is no node kind of the fleet file{hint}", short(name)),
                    )
                })
            }
            KindFrom::Parts { accelerator, chips, cpu, memory } => {
                let parts = self.parts(record, accelerator, chips, cpu, memory)?;
                if let Some(kind) = self.kinds.get(&parts) {
                    return Ok(*kind);
                }
                let kind = self.new_kind(record, accelerator, parts)?;
                let ix = self.number_of(record, kind)?;
                self.kinds.insert(parts, ix);
                Ok(ix)
            }
        }
    }

    fn parts(
        &self,
        record: &StringRecord,
        accelerator: usize,
        chips: usize,
        cpu: (usize, u64),
        memory: (usize, u64),
    ) -> Checked<Parts> {
        let count = self.number(record, (chips, 1), 0, u64::from(NodeKind::MAX_CHIPS))?;
        let cpu = self.number(record, cpu, 1, u64::from(u32::MAX))?;
        let memory = self.number(record, memory, 1, 1 << 30)?;
        let model = self.cell(record, accelerator);
        let kind = match (model.is_empty(), count) {
            (true, 0) => None,
            (true, _) => {
                return Err(self.fault(record, Some(accelerator), format!("is empty, but the node has {count} chips")));
            }
            (false, 0) => {
                return Err(self.fault(
                    record,
                    Some(chips),
                    format!("0 chips of kind `{}`: leave the kind empty", short(model)),
                ));
            }
            (false, _) => Some(self.accelerator(record, accelerator, model)?),
        };
        Ok((kind, count as u16, cpu as u32, memory))
    }

    fn accelerator(&self, record: &StringRecord, column: usize, model: &str) -> Checked<AcceleratorKindIx> {
        let names = self.accelerators.kinds.iter().map(|kind| kind.name.as_str());
        names.clone().position(|name| name == model).map(|ix| AcceleratorKindIx(ix as u32)).ok_or_else(|| {
            let (model, hint) = (short(model), did_you_mean(model, names));
            let message =
                format!("`{model}` is no accelerator of the fleet file{hint}; declare it as [accelerators.{model}]");
            self.fault(record, Some(column), message)
        })
    }

    fn new_kind(&self, record: &StringRecord, column: usize, parts: Parts) -> Checked<NodeKind> {
        let (accelerator, chips, cpu, memory) = parts;
        let own_base = accelerator.and_then(|ix| self.accelerators.base[ix.ix()]);
        let Some(base) = own_base.or(self.default_base) else {
            let message = "no base watts: write `base_watts` in the accelerator's table or in the node list's";
            return Err(self.fault(record, Some(column), message.to_owned()));
        };
        let model =
            accelerator.map_or("cpu".to_owned(), |ix| format!("{}-{chips}", self.accelerators.kinds[ix.ix()].name));
        let cpu_text = if cpu % 1000 == 0 { format!("{}c", cpu / 1000) } else { format!("{cpu}mc") };
        let memory_text = if memory % 1024 == 0 { format!("{}g", memory / 1024) } else { format!("{memory}m") };
        let name = format!("{model}-{cpu_text}-{memory_text}");
        let (cpu, memory, attributes) = (CpuMilli::new(cpu), Mebibytes::new(memory), BTreeMap::new());
        Ok(NodeKind { name, accelerator, chips, cpu, memory, base, attributes })
    }

    /// The number of a kind that arose from a row: an earlier list may have brought the same.
    fn number_of(&mut self, record: &StringRecord, kind: NodeKind) -> Checked<NodeKindIx> {
        let kinds = self.known.node_kinds;
        match kinds.iter().position(|known| known.name == kind.name) {
            Some(ix) if kinds[ix] == kind => Ok(NodeKindIx(ix as u32)),
            Some(_) => {
                let message = format!("there is another node kind named `{}`: rename that one", kind.name);
                Err(self.fault(record, None, message))
            }
            None => {
                self.new_kinds.push(kind);
                Ok(NodeKindIx((kinds.len() + self.new_kinds.len()) as u32 - 1))
            }
        }
    }

    fn cell<'r>(&self, record: &'r StringRecord, column: usize) -> &'r str {
        record.get(column).unwrap_or_default().trim()
    }

    fn number(&self, record: &StringRecord, (column, scale): (usize, u64), low: u64, high: u64) -> Checked<u64> {
        let text = self.cell(record, column);
        let number = text.parse::<u64>().ok().and_then(|number| number.checked_mul(scale));
        number.filter(|number| (low..=high).contains(number)).ok_or_else(|| {
            let (low, high) = (grouped(low.div_ceil(scale)), grouped(high / scale));
            let message = format!("`{}` is not allowed: write a whole number from {low} to {high}", short(text));
            self.fault(record, Some(column), message)
        })
    }

    fn fault(&self, record: &StringRecord, column: Option<usize>, message: String) -> Fault {
        Fault::There(Box::new(FleetError {
            file: self.file.clone(),
            line: Some(line_of(record)),
            column: None,
            field: column.and_then(|column| self.header.get(column)).map(short),
            message,
            source: None,
        }))
    }

    fn finish(mut self, file: &Spanned<String>) -> Checked<Listed> {
        if self.rows.is_empty() {
            return Err(at(file, format!("`{}` lists no node", file.get_ref())));
        }
        // Groups are numbered as they first appear, so domains keep the order of the list, and a stable sort keeps
        // the order of the nodes inside each.
        self.rows.sort_by(|a, b| a.groups.cmp(&b.groups));
        let levels: Vec<usize> = self.group_columns.iter().map(|(level, _)| *level).collect();
        let size = Size { nodes: self.rows.len() as u64, domains: self.domains };
        Ok(Listed { rows: self.rows, levels, group_names: self.group_names, new_kinds: self.new_kinds, size })
    }
}

impl Listed {
    /// Builds the rows below the open site; `first_kind` is the number of the first of the new kinds.
    pub(super) fn grow(self, tree: &mut Tree, names: &mut BTreeMap<NodeIx, String>) {
        let mut open: Vec<u32> = Vec::new();
        for row in self.rows {
            let shared = open.iter().zip(&row.groups).take_while(|(a, b)| a == b).count();
            for _ in shared..open.len() {
                tree.close();
            }
            open.truncate(shared);
            for (ix, group) in row.groups.iter().enumerate().skip(shared) {
                tree.open(self.levels[ix], &self.group_names[*group as usize]);
                open.push(*group);
            }
            if let Some(name) = row.name {
                names.insert(NodeIx(tree.next_node()), name);
            }
            tree.nodes(row.kind, 1);
        }
        open.iter().for_each(|_| tree.close());
    }
}

fn kind_from(list: &syntax::NodeList, header: &StringRecord, known: &Known<'_>) -> Checked<KindFrom> {
    let columns = &list.columns;
    let parts = [
        &columns.accelerator,
        &columns.chips,
        &columns.cpu_milli,
        &columns.cpu_cores,
        &columns.memory_mib,
        &columns.memory_gib,
    ];
    let some_part = parts.into_iter().flatten().next();
    match (&list.kind, &columns.kind, some_part) {
        (Some(kind), None, None) => Ok(KindFrom::All(node_kind_named(kind, known.node_kinds)?)),
        (None, Some(column), None) => Ok(KindFrom::Column(column_named(column, header)?)),
        (None, None, Some(_)) => {
            let cpu = scaled(
                list,
                [(&columns.cpu_milli, 1), (&columns.cpu_cores, 1000)],
                "cpu_milli` or `cpu_cores",
                header,
            )?;
            let memory = scaled(
                list,
                [(&columns.memory_mib, 1), (&columns.memory_gib, 1024)],
                "memory_mib` or `memory_gib",
                header,
            )?;
            let accelerator = scaled(list, [(&columns.accelerator, 1), (&None, 1)], "accelerator", header)?.0;
            let chips = scaled(list, [(&columns.chips, 1), (&None, 1)], "chips", header)?.0;
            Ok(KindFrom::Parts { accelerator, chips, cpu, memory })
        }
        _ => Err(at(
            &list.file,
            "say in one way what the nodes are: `kind`, `columns.kind`, or columns for accelerator, chips, cpu and memory",
        )),
    }
}

/// The column of the one of two keys that is written, and the factor to the model's unit.
fn scaled(
    list: &syntax::NodeList,
    keys: [(&Option<Spanned<String>>, u64); 2],
    words: &str,
    header: &StringRecord,
) -> Checked<(usize, u64)> {
    match keys {
        [(Some(_), _), (Some(second), _)] => Err(at(second, format!("write `{words}`, not both"))),
        [(Some(column), scale), (None, _)] | [(None, _), (Some(column), scale)] => {
            Ok((column_named(column, header)?, scale))
        }
        [(None, _), (None, _)] => Err(at(&list.file, format!("`columns` lacks `{words}`"))),
    }
}

fn column_named(name: &Spanned<String>, header: &StringRecord) -> Checked<usize> {
    let given = name.get_ref();
    header.iter().position(|column| column.trim() == given).ok_or_else(|| {
        let hint = did_you_mean(given, header.iter());
        let columns: Vec<String> = header.iter().take(20).map(short).collect();
        at(name, format!("`{given}` is no column of the list{hint}; it has: {}", columns.join(", ")))
    })
}

/// Cells are quoted in messages up to this many characters.
fn short(text: &str) -> String {
    text.chars().take(40).collect::<String>().escape_debug().to_string()
}

fn line_of(record: &StringRecord) -> u64 {
    record.position().map_or(0, csv::Position::line)
}

fn csv_fault(file: &str, line: u64, error: csv::Error) -> Fault {
    let line = Some(error.position().map_or(line, csv::Position::line));
    let (message, source) = match error.into_kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            (format!("has {len} columns where the header has {expected_len}"), None)
        }
        csv::ErrorKind::Utf8 { .. } => ("is not UTF-8 text: save the list as UTF-8".to_owned(), None),
        csv::ErrorKind::Io(error) if error.get_ref().is_some_and(|inner| inner.is::<LineTooLong>()) => {
            ("has a line longer than 1 MiB: a quote that is never closed does that too".to_owned(), None)
        }
        csv::ErrorKind::Io(error) => (io_words(&error).to_owned(), Some(error)),
        _ => ("is not CSV".to_owned(), None),
    };
    let file = file.to_owned();
    Fault::There(Box::new(FleetError { file, line, column: None, field: None, message, source }))
}

fn io_words(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::UnexpectedEof => "the gzip data ends early: fetch the file again",
        std::io::ErrorKind::InvalidInput | std::io::ErrorKind::InvalidData => {
            "the gzip data is damaged: fetch the file again"
        }
        _ => "cannot be read",
    }
}
