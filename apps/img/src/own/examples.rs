//! Examples for the help of a command.

/// A command's arguments, and what they do.
type Example = (&'static str, &'static str);

const EXAMPLES: &[(&str, &[Example])] = &[
    (
        "convert",
        &[
            ("disk.raw disk.qcow2", "the format of the target follows from its name"),
            (
                "-c -o compression_type=zstd disk.qcow2 small.qcow2",
                "compressed, by all processors; if it is killed, the same line goes on with it",
            ),
            ("--progress=json disk.vmdk disk.qcow2 2>progress", "for a program that watches"),
        ],
    ),
    (
        "create",
        &[
            ("-f qcow2 disk.qcow2 20G", "an empty disk"),
            ("-f qcow2 -b base.qcow2 -F qcow2 over.qcow2", "one that keeps changes to another"),
        ],
    ),
    ("info", &[("disk.qcow2", "what the image is"), ("-b --output=json over.qcow2", "the chain")]),
    ("check", &[("disk.qcow2", "is it sound?"), ("-r leaks disk.qcow2", "give back lost space")]),
    ("resize", &[("disk.qcow2 +10G", "ten gibibytes more")]),
    (
        "snapshot",
        &[
            ("-c before disk.qcow2", "keep what it holds now"),
            ("-a before disk.qcow2", "back to it"),
        ],
    ),
    ("commit", &[("over.qcow2", "write what changed into the backing file")]),
    ("rebase", &[("-b new.qcow2 -F qcow2 over.qcow2", "put it on top of another image")]),
    (
        "repair",
        &[
            ("disk.qcow2", "what is wrong, what could be done, what it would cost"),
            ("--apply disk.qcow2", "do it"),
        ],
    ),
    ("shrink", &[("disk.qcow2", "after files in it were deleted and the space trimmed")]),
    ("compare", &[("a.raw b.qcow2", "do they hold the same?")]),
];

/// Examples for a command.
pub(crate) fn of(command: &str) -> &'static [Example] {
    EXAMPLES.iter().find(|(name, _)| *name == command).map_or(&[], |(_, examples)| examples)
}
