//! Images that the installed tools write: seeds beside those of our own making.

use std::path::Path;
use std::process::Command;

/// What opens the images that are encrypted.
pub const PASSPHRASE: &str = "seed";

/// A small image: its format, options of `qemu-img create`, its length, and what is done to it then.
type Recipe = (&'static str, &'static str, &'static str, &'static [&'static [&'static str]]);

const WRITTEN: &[&[&str]] =
    &[&["qemu-io", "-c", "write -P 1 0 700", "-c", "write -P 2 9k 5k", "-c", "write -z 20k 8k"]];
const PACKED: &[&[&str]] = &[&["qemu-io", "-c", "write -c -P 3 0 4k", "-c", "write -P 4 6k 1k"]];
const CHANGED: &[&[&str]] = &[
    &["qemu-io", "-c", "write -P 1 0 3k", "-c", "discard 1k 1k"],
    &["qemu-img", "snapshot", "-c", "1"],
    &["qemu-io", "-c", "write -P 5 1k 1k"],
    &["qemu-img", "bitmap", "--add", "0"],
    &["qemu-io", "-c", "write -P 6 30k 1k"],
];

const RECIPES: &[Recipe] = &[
    ("qcow2", "cluster_size=512", "60k", CHANGED),
    ("qcow2", "cluster_size=4k", "60k", PACKED),
    ("qcow2", "cluster_size=4k,compression_type=zstd", "60k", PACKED),
    ("qcow2", "cluster_size=16k,extended_l2=on", "60k", WRITTEN),
    ("qcow2", "cluster_size=512,compat=0.10", "60k", WRITTEN),
    ("qcow2", "cluster_size=512,encrypt.format=aes,encrypt.key-secret=s", "60k", WRITTEN),
    ("qcow", "", "60k", WRITTEN),
    ("qed", "cluster_size=4k,table_size=2", "60k", WRITTEN),
    ("vdi", "", "60k", &[]),
    ("vmdk", "", "60k", WRITTEN),
    ("vmdk", "subformat=streamOptimized", "60k", &[]),
    ("vpc", "", "60k", WRITTEN),
    ("parallels", "cluster_size=4k", "60k", WRITTEN),
    ("luks", "key-secret=s,iter-time=1,cipher-alg=aes-128,cipher-mode=cbc", "8k", &[]),
];

/// Runs a tool on the image.
fn run(format: &str, options: &str, words: &[&str], rest: &[&str], folder: &Path) {
    let secret = format!("secret,id=s,data={PASSPHRASE}");
    let mut command = Command::new(words[0]);
    command.current_dir(folder);
    if options.contains("encrypt.") {
        let mut words = words.iter();
        let name = words.next().expect("a tool has a name");
        // The name of a command comes before its options.
        if *name == "qemu-img" {
            command.args(words.next());
        }
        command.args(["--object", &secret, "--image-opts"]).args(words);
        command.arg(format!(
            "driver={format},file.filename=image,encrypt.format=aes,encrypt.key-secret=s"
        ));
    } else {
        command.args(&words[1..]).args(rest);
    }
    let output = command.output().unwrap_or_else(|error| panic!("{}: {error}", words[0]));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?}: {text}");
}

/// The images of these formats, as the tools of the search path make them in the folder at hand.
///
/// # Panics
/// There are no such tools.
pub fn images(wanted: impl Fn(&str) -> bool) -> Vec<(&'static str, Vec<u8>)> {
    let folder = std::env::current_dir().expect("there is a folder").join("peer");
    std::fs::create_dir_all(&folder).expect("the folder can be written to");
    let secret = format!("secret,id=s,data={PASSPHRASE}");
    let recipes = RECIPES.iter().filter(|(format, ..)| wanted(format));
    let made = recipes.map(|(format, options, size, changes)| {
        let mut create = vec!["qemu-img", "create", "-q", "--object", &secret, "-f", format];
        if !options.is_empty() {
            create.extend(["-o", options]);
        }
        run(format, "", &create, &["image", size], &folder);
        for words in *changes {
            let rest: &[&str] = match (words[0], words.get(1)) {
                // The name of a bitmap or snapshot comes last, or first.
                ("qemu-img", Some(&"bitmap")) => &["image", "0"],
                _ => &["image"],
            };
            let words = if rest.len() == 2 { &words[..words.len() - 1] } else { words };
            run(format, options, words, rest, &folder);
        }
        (*format, std::fs::read(folder.join("image")).expect("it was made"))
    });
    let made = made.collect();
    let _ = std::fs::remove_dir_all(&folder);
    made
}
