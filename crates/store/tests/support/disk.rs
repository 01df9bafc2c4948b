//! A disk that loses power: replays the record of `record.c` up to a point, and chooses the files that may then remain.
//!
//! It guarantees no more than POSIX does. Data before a flush of its file is present. Of later writes, each is present,
//! absent, or present in any of its 512-byte sectors, independently of earlier ones; the same holds for changes of a
//! file's length. Names have the same freedom until their directory is flushed, and a flush of the file does not make
//! its name durable; but a rename is atomic. Unwritten ranges are zero.

use std::collections::BTreeMap;

const SECTOR: usize = 512;

/// Files by name.
pub(crate) type Files = BTreeMap<String, Vec<u8>>;

/// An operation on the files of a directory. Inodes identify files.
#[derive(Debug, Clone)]
pub(crate) enum Op {
    Create { inode: u64, name: String },
    Write { inode: u64, at: usize, bytes: Vec<u8> },
    Cut { inode: u64, length: usize },
    Flush { inode: u64 },
    FlushNames,
    Rename { from: String, to: String },
    Link { from: String, to: String },
    Unlink { name: String },
}

/// Parses a log of `record.c`.
pub(crate) fn read(mut log: &[u8]) -> Vec<Op> {
    let mut ops = Vec::new();
    while !log.is_empty() {
        let (head, rest) = log.split_at(25);
        let number = |at: usize| u64::from_ne_bytes(head[at..at + 8].try_into().unwrap());
        let length = |at: usize| u32::from_ne_bytes(head[at..at + 4].try_into().unwrap()) as usize;
        let (name, rest) = rest.split_at(length(17));
        let (bytes, rest) = rest.split_at(length(21));
        log = rest;
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let (inode, at) = (number(1), number(9) as usize);
        ops.push(match head[0] {
            b'c' => Op::Create { inode, name: text(name) },
            b'w' => Op::Write { inode, at, bytes: bytes.to_vec() },
            b't' => Op::Cut { inode, length: at },
            b's' => Op::Flush { inode },
            b'd' => Op::FlushNames,
            b'r' => Op::Rename { from: text(name), to: text(bytes) },
            b'l' => Op::Link { from: text(name), to: text(bytes) },
            b'u' => Op::Unlink { name: text(name) },
            other => panic!("no kind of op: {other}"),
        });
    }
    ops
}

/// A change of a file that was not flushed.
enum Change<'a> {
    Write { at: usize, bytes: &'a [u8] },
    Cut { length: usize },
}

impl Change<'_> {
    fn apply(&self, to: &mut Vec<u8>, keep: impl FnMut() -> bool) {
        match self {
            Change::Cut { length } => to.resize(*length, 0),
            Change::Write { at, bytes } => write(to, *at, bytes, keep),
        }
    }
}

/// Writes the sectors that `keep` selects.
fn write(to: &mut Vec<u8>, at: usize, bytes: &[u8], mut keep: impl FnMut() -> bool) {
    let mut done = 0;
    while done < bytes.len() {
        let start = at + done;
        let length = (SECTOR - start % SECTOR).min(bytes.len() - done);
        if keep() {
            if to.len() < start + length {
                to.resize(start + length, 0);
            }
            to[start..start + length].copy_from_slice(&bytes[done..done + length]);
        }
        done += length;
    }
}

#[derive(Default)]
struct Stored<'a> {
    durable: Vec<u8>,
    pending: Vec<Change<'a>>,
    /// The last name of the file, which decides whether its flushes are honoured.
    name: String,
}

/// A change of names that was not flushed. Files are given by their index in [`Disk::files`].
enum Naming {
    Bind(String, usize),
    Move(String, String, usize),
    Unbind(String),
}

/// The disk at a point of the record.
pub(crate) struct Disk<'a> {
    files: Vec<Stored<'a>>,
    /// The present owner of each inode, because inodes are reused.
    inodes: BTreeMap<u64, usize>,
    durable: BTreeMap<String, usize>,
    names: BTreeMap<String, usize>,
    pending: Vec<Naming>,
    /// Whether the disk honours flushes of a file of that name; the directory has the name "".
    honours: fn(&str) -> bool,
}

impl<'a> Disk<'a> {
    /// A disk on which these files, with their inodes, are durable.
    pub(crate) fn new(files: &BTreeMap<String, (u64, Vec<u8>)>, honours: fn(&str) -> bool) -> Self {
        let mut disk = Disk {
            files: Vec::new(),
            inodes: BTreeMap::new(),
            durable: BTreeMap::new(),
            names: BTreeMap::new(),
            pending: Vec::new(),
            honours,
        };
        for (name, (inode, bytes)) in files {
            let file = disk.file(*inode, name);
            disk.files[file].durable.clone_from(bytes);
            disk.names.insert(name.clone(), file);
        }
        disk.durable.clone_from(&disk.names);
        disk
    }

    fn file(&mut self, inode: u64, name: &str) -> usize {
        self.files.push(Stored { name: name.to_owned(), ..Stored::default() });
        self.inodes.insert(inode, self.files.len() - 1);
        self.files.len() - 1
    }

    fn of(&mut self, inode: u64) -> &mut Stored<'a> {
        &mut self.files[self.inodes[&inode]]
    }

    /// Replays one operation.
    pub(crate) fn apply(&mut self, op: &'a Op) {
        match op {
            Op::Create { inode, name } => {
                let file = self.file(*inode, name);
                self.names.insert(name.clone(), file);
                self.pending.push(Naming::Bind(name.clone(), file));
            }
            Op::Write { inode, at, bytes } => {
                self.of(*inode).pending.push(Change::Write { at: *at, bytes });
            }
            Op::Cut { inode, length } => {
                self.of(*inode).pending.push(Change::Cut { length: *length });
            }
            Op::Flush { inode } => {
                let honours = self.honours;
                let file = self.of(*inode);
                if honours(&file.name) {
                    for change in std::mem::take(&mut file.pending) {
                        change.apply(&mut file.durable, || true);
                    }
                }
            }
            Op::FlushNames if (self.honours)("") => {
                self.pending.clear();
                self.durable.clone_from(&self.names);
            }
            Op::FlushNames => {}
            Op::Rename { from, to } => {
                let file = self.names.remove(from).unwrap();
                self.names.insert(to.clone(), file);
                self.files[file].name.clone_from(to);
                self.pending.push(Naming::Move(from.clone(), to.clone(), file));
            }
            Op::Link { from, to } => {
                let file = self.names[from];
                self.names.insert(to.clone(), file);
                self.pending.push(Naming::Bind(to.clone(), file));
            }
            Op::Unlink { name } => {
                self.names.remove(name);
                self.pending.push(Naming::Unbind(name.clone()));
            }
        }
    }

    /// The files as programs see them while there is power.
    pub(crate) fn whole(&self) -> Files {
        self.left(&self.names, |_| Survival::Everything, &mut || true)
    }

    /// Files that may remain after a power loss at this point.
    pub(crate) fn lose_power(&self, random: &mut Random) -> Files {
        let mut names = self.durable.clone();
        let mood = Survival::thrown(random);
        for change in &self.pending {
            if !mood.keeps(&mut || random.coin()) {
                continue;
            }
            match change {
                Naming::Bind(name, file) => {
                    names.insert(name.clone(), *file);
                }
                Naming::Move(from, to, file) => {
                    names.remove(from);
                    names.insert(to.clone(), *file);
                }
                Naming::Unbind(name) => {
                    names.remove(name);
                }
            }
        }
        let moods: Vec<_> = self.files.iter().map(|_| Survival::thrown(random)).collect();
        self.left(&names, |file| moods[file], &mut || random.coin())
    }

    fn left(
        &self,
        names: &BTreeMap<String, usize>,
        mood: impl Fn(usize) -> Survival,
        coin: &mut impl FnMut() -> bool,
    ) -> Files {
        let content = |file: usize, coin: &mut dyn FnMut() -> bool| {
            let (stored, mood) = (&self.files[file], mood(file));
            let mut bytes = stored.durable.clone();
            for change in &stored.pending {
                match mood {
                    Survival::Torn => change.apply(&mut bytes, &mut *coin),
                    _ if mood.keeps(&mut *coin) => change.apply(&mut bytes, || true),
                    _ => {}
                }
            }
            bytes
        };
        names.iter().map(|(name, file)| (name.clone(), content(*file, coin))).collect()
    }
}

/// Which changes of a file that were not flushed survive.
#[derive(Debug, Clone, Copy)]
enum Survival {
    Everything,
    Nothing,
    /// Any of them, whole.
    Some,
    /// Any of their sectors.
    Torn,
}

impl Survival {
    fn thrown(random: &mut Random) -> Survival {
        [Survival::Everything, Survival::Nothing, Survival::Some, Survival::Torn][random.below(4)]
    }

    fn keeps(self, coin: &mut dyn FnMut() -> bool) -> bool {
        match self {
            Survival::Everything => true,
            Survival::Nothing => false,
            Survival::Some | Survival::Torn => coin(),
        }
    }
}

/// A seeded generator of choices.
pub(crate) struct Random(fastrand::Rng);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(fastrand::Rng::with_seed(seed))
    }

    /// The seed that repeats all choices from here on.
    pub(crate) fn seed(&self) -> u64 {
        self.0.get_seed()
    }

    /// A number less than `limit`.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0.usize(..limit)
    }

    fn coin(&mut self) -> bool {
        self.0.bool()
    }
}
