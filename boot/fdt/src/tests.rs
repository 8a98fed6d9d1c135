//! Tests of the tree and its forms.

use super::*;

fn sample() -> Tree {
    let root = Node::new("")
        .with("#address-cells", 2u32)
        .with("compatible", ["a,b", "c"])
        .with("ranges", ())
        .child(Node::new("memory@80000000").with("reg", [0x8000_0000u64, 0x1000]))
        .child(Node::new("soc").child(Node::new("serial@10000000").with("bytes", vec![1, 2, 3])));
    Tree { root, reserved: vec![(0x1000, 0x2000)], boot_cpu: 1 }
}

#[test]
fn a_blob_reads_back_as_the_tree() {
    let blob = sample().to_blob();
    assert_eq!(Tree::parse(&blob), Ok(sample()));
    assert_eq!(blob.len() as u32, u32::from_be_bytes([blob[4], blob[5], blob[6], blob[7]]));
    let longer = [blob, vec![0; 100]].concat();
    assert_eq!(Tree::parse(&longer), Ok(sample()));
}

#[test]
fn names_share_their_ends() {
    let tree = Tree::new(Node::new("").with("interrupt-parent", 1u32).with("parent", 2u32));
    let blob = tree.to_blob();
    assert!(blob.ends_with(b"\0\0\0\x09interrupt-parent\0"));
    assert_eq!(Tree::parse(&blob), Ok(tree));
}

#[test]
fn paths_find_nodes_with_and_without_unit_address() {
    let mut tree = sample();
    assert_eq!(tree.node("/soc/serial").unwrap().get("bytes"), Some(&[1, 2, 3][..]));
    assert_eq!(tree.node("/soc/serial@10000000").unwrap().name, "serial@10000000");
    assert_eq!(tree.node("/soc/rtc"), None);
    assert_eq!(tree.node("/").unwrap().get_u32("#address-cells"), Some(2));
    assert_eq!(tree.root.get_str("compatible"), Some("a,b"));
    tree.node_mut("/memory").unwrap().remove("reg");
    assert_eq!(tree.node("/memory").unwrap().get("reg"), None);
}

#[test]
fn the_kernel_is_told_its_arguments() {
    let mut tree = sample();
    tree.set_initrd(0x9000_0000, 0x9000_1000);
    tree.set_bootargs("quiet");
    tree.set_bootargs("console=ttyS0");
    let chosen = tree.node("/chosen").unwrap();
    let names: Vec<&str> = chosen.properties.iter().map(|(n, _)| n.as_str()).collect();
    assert_eq!(names, ["bootargs", "linux,initrd-end", "linux,initrd-start"]);
    assert_eq!(chosen.get_str("bootargs"), Some("console=ttyS0"));
}

#[test]
fn prints_like_the_compiler() {
    let text = sample().to_string();
    let expected = "/dts-v1/;

/memreserve/ 0x0000000000001000 0x0000000000002000;
/ {
\t#address-cells = <0x02>;
\tcompatible = \"a,b\", \"c\";
\tranges;

\tmemory@80000000 {
\t\treg = <0x00 0x80000000 0x00 0x1000>;
\t};

\tsoc {

\t\tserial@10000000 {
\t\t\tbytes = [01 02 03];
\t\t};
\t};
};
";
    assert_eq!(text, expected);
}

#[test]
fn damaged_blobs_are_refused_or_read_but_never_panic() {
    let good = sample().to_blob();
    for n in 0..good.len() {
        assert!(Tree::parse(&good[..n]).is_err());
        for flip in [0xff, 0x01, 0x80] {
            let mut bad = good.clone();
            bad[n] ^= flip;
            let _ = Tree::parse(&bad).map(|tree| tree.to_string());
        }
    }
}

#[test]
fn nesting_is_bounded() {
    let mut blob = Tree::default().to_blob();
    let deep: Vec<u8> = std::iter::repeat_n([0, 0, 0, 1, 0, 0, 0, 0], 100_000).flatten().collect();
    blob.truncate(56);
    blob.extend(deep);
    let total = (blob.len() as u32).to_be_bytes();
    blob[4..8].copy_from_slice(&total);
    blob[12..16].copy_from_slice(&total);
    assert_eq!(Tree::parse(&blob).unwrap_err().problem, "nodes nested too deep");
}
