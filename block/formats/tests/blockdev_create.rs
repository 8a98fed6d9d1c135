//! Images made and changed through nodes, as a monitor asks for it, beside the installed tools.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::sync::Arc;

use common::*;
use formats::{HostFiles, Target, add_blockdev, amend_blockdev, create_blockdev, open_target};
use graph::{Graph, NoSecrets, OpenError};

/// Options as one text: `key=value,…`.
fn pairs(text: &str) -> Vec<(String, String)> {
    let both = |pair: &str| pair.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned()));
    text.split(',').map(|pair| both(pair).unwrap()).collect()
}

fn create(graph: &Arc<Graph>, text: &str) -> Result<(), OpenError> {
    create_blockdev(pairs(text), &HostFiles, graph, &Backwards)
}

fn json(path: &str, format: &str) -> serde_json::Value {
    let options = format!("driver={format},file.filename={path}");
    let text = must("qemu-img", &["info", "--output=json", "--image-opts", &options]);
    serde_json::from_str(&text).unwrap()
}

/// Makes a node `f` of a file.
fn add_file(graph: &Arc<Graph>, path: &str) {
    let keys = pairs(&format!("driver=file,node-name=f,filename={path}"));
    add_blockdev(keys, &HostFiles, graph, &NoSecrets).unwrap();
}

#[test]
fn images_are_made_in_nodes_and_known_to_the_peer() {
    let folder = Folder::new("create-node");
    for (row, options) in [
        "driver=qcow2,size=2097152",
        "driver=qcow2,size=2097152,version=v2,cluster-size=4096",
        "driver=qcow2,size=2097152,lazy-refcounts=true,refcount-bits=32,compression-type=zstd",
        "driver=qcow2,size=2097152,extended-l2=on,preallocation=metadata",
        "driver=qed,size=2097152,table-size=4",
        "driver=qcow,size=2097152",
        "driver=vdi,size=2097152,preallocation=metadata",
        "driver=vhdx,size=2097152,block-size=1048576,subformat=fixed",
        "driver=vpc,size=2097152,force-size=on",
        "driver=vmdk,size=2097152,subformat=monolithicSparse,adapter-type=lsilogic",
        "driver=parallels,size=2097152,cluster-size=65536",
    ]
    .into_iter()
    .enumerate()
    {
        let path = folder.path(&format!("image{row}"));
        let graph = Graph::new();
        create(&graph, &format!("driver=file,filename={path},size=0")).unwrap();
        add_file(&graph, &path);
        create(&graph, &format!("{options},file=f")).unwrap_or_else(|e| panic!("{options}: {e}"));
        graph.remove("f").unwrap();
        let driver = options.split([',', '=']).nth(1).unwrap();
        let info = json(&path, driver);
        assert_eq!(info["virtual-size"], 2_097_152, "{options}");
        assert_eq!(info["format"], driver);
        if driver != "qcow" && driver != "vpc" && driver != "vmdk" {
            must("qemu-img", &["check", "-q", "-f", driver, &path]);
        }
        // Once more, over what is there, and the file by its options.
        let inline = format!("{options},file.driver=file,file.filename={path}");
        create(&graph, &inline).unwrap_or_else(|e| panic!("{options}: {e}"));
        assert_eq!(json(&path, driver)["virtual-size"], 2_097_152, "{options}");
    }
}

#[test]
fn what_cannot_be_made_is_refused_with_the_peers_words() {
    let folder = Folder::new("create-refused");
    let path = folder.path("image");
    let graph = Graph::new();
    let text = |text: &str| create(&graph, text).unwrap_err().to_string();
    let file = format!("driver=file,filename={path},size=0");
    create(&graph, &file).unwrap();
    add_file(&graph, &path);
    let nowhere = "Cannot find device='no' nor node-name='no'";
    assert_eq!(text("driver=qcow2,file=no,size=512"), nowhere);
    let odd = "Image size must be a multiple of 512 bytes";
    assert_eq!(text("driver=qcow2,file=f,size=513"), odd);
    assert_eq!(text("driver=raw,file=f"), "Driver 'raw' does not support blockdev-create");
    create(&graph, "driver=qcow2,file=f,size=1048576").unwrap();
    add_blockdev(pairs("driver=qcow2,node-name=q,file=f"), &HostFiles, &graph, &NoSecrets).unwrap();
    assert_eq!(
        text("driver=qcow2,file=f,size=1048576"),
        "Permission conflict on node 'f': permissions 'write, resize' are both required by an \
         unnamed block device (uses node 'f' as 'root' child) and unshared by node 'q' (uses node \
         'f' as 'file' child)."
    );
    let q = graph.named("q").unwrap();
    let amend =
        |options: &str| amend_blockdev(&q, pairs(options), false, &NoSecrets, &mut |_, _| {});
    amend("driver=qcow2").unwrap();
    let refused = amend("driver=qcow2,encrypt.format=luks,encrypt.state=active").unwrap_err();
    assert_eq!(refused.to_string(), "image is not encrypted, can't amend");
}

#[test]
fn keys_of_an_open_image_are_changed() {
    let folder = Folder::new("create-keys");
    let path = folder.path("image");
    let graph = Graph::new();
    create(&graph, &format!("driver=file,filename={path},size=0")).unwrap();
    let encrypted = "driver=qcow2,size=1048576,encrypt.format=luks,encrypt.key-secret=abc,\
                     encrypt.iter-time=10";
    create(&graph, &format!("{encrypted},file.driver=file,file.filename={path}")).unwrap();
    let info = json(&path, "qcow2");
    assert_eq!(info["encrypted"], true);
}

#[test]
fn targets_of_older_commands_are_made_and_opened() {
    let folder = Folder::new("create-target");
    let path = folder.path("image");
    let graph = Graph::new();
    let mut target = Target {
        path: &path,
        format: Some("qcow2"),
        existing: false,
        size: 1 << 20,
        backing: None,
        node_name: Some("t"),
    };
    let member = open_target(&target, &HostFiles, &graph, &NoSecrets).unwrap();
    assert_eq!((member.name(), member.node().size()), ("t", 1 << 20));
    drop(member);
    (target.existing, target.format, target.node_name) = (true, None, None);
    let member = open_target(&target, &HostFiles, &graph, &NoSecrets).unwrap();
    assert_eq!(member.node().info().driver, "qcow2");
}
