"""Broken manifests, and what is said about them: lines put after a good head, and the problem that must come of it.

The head ends in line 6, so the first line of a case is line 7. A case with a ``---`` replaces the head.
"""

from __future__ import annotations

from typing import NamedTuple

HEAD = """\
apiVersion: containarium.dev/v1
kind: Environment
metadata:
  name: alice
spec:
  sshKeys: [{file: keys/alice.pub}]
"""


class Case(NamedTuple):
    name: str
    text: str
    where: str
    field: str
    message: str
    remedy: str


CASES = [
    Case("unknown field", "  dockr: true", "7:3", "spec.dockr", "there is no field 'dockr'", "did you mean docker?"),
    Case("wrong place", "  memory: 1GiB", "7:3", "spec.memory", "there is no field", "it belongs in spec.resources"),
    Case("python's spelling", "  ssh_keys: []", "7:3", "spec.ssh_keys", "there is no field", "did you mean sshKeys?"),
    Case("merge key", "  <<: {docker: true}", "7:3", "spec.<<", "there is no field '<<'", "known here are image,"),
    Case("no unit", "  resources: {memory: 8}", "7:23", "spec.resources.memory", "8 is not a size", "8GiB or 8MiB"),
    Case("two levels", "  resources:\n    disk: 8G", "8:11", "spec.resources.disk", "not a size", "8GiB (1024-based)"),
    Case("yes", "  docker: yes", "7:11", "spec.docker", "'yes' is neither true nor false", "without quotes"),
    Case("on", "  running: on", "7:12", "spec.running", "'on' is neither true nor false", "write true or false"),
    Case("quoted bool", '  docker: "true"', "7:11", "spec.docker", "neither true nor false", "without quotes"),
    Case("octal", "  resources: {processes: 0100}", "7:26", "spec.resources.processes", "whole number", "write 100,"),
    Case("quoted int", "  resources: {processes: '512'}", "7:26", "spec.resources.processes", "whole", "write 512,"),
    Case("too few", "  resources: {processes: 1}", "7:26", "spec.resources.processes", "1 is too low", "64 or more"),
    Case("sexagesimal", "  deletion: {grace: 1:30}", "7:21", "spec.deletion.grace", "'1:30' is not a length", "90m"),
    Case("no such day", "  expires: 2026-13-31", "7:12", "spec.expires", "there is no day", "2026-12-31"),
    Case("nothing", "  resources:", "7:13", "spec.resources", "nothing is written here", "leave the field out"),
    Case("not a list", "  packages: git", "7:13", "spec.packages", "'git' is not a list", "after '- '"),
    Case("item of a list", "  packages: [git, -x]", "7:19", "spec.packages[1]", "not a Debian package", "apt knows"),
    Case("not a mapping", "  network: 10.0.3.5", "7:12", "spec.network", "is not a mapping", "NAME: VALUE"),
    Case(
        "twice", "  docker: true\n  docker: true", "8:3", "spec.docker", "is written twice, first in line 7", "keep one"
    ),
    Case("tab", "\tdocker: true", "7:1", "", "there is a tab", "indent with spaces"),
    Case("tab below", "  resources:\n\tcpu: 4", "8:1", "", "there is a tab", "indent with spaces"),
    Case("indentation", " docker: true", "7:2", "", "the indentation does not fit", "indent the fields"),
    Case("colon", "  image: a: b", "7:11", "", "a ':' is not expected here", "in quotes"),
    Case("open quote", "  image: 'x", "8:1", "", "inside quotes", "close them"),
    Case("open bracket", "  packages: [a", "8:1", "", "a bracket is not closed", "check the brackets"),
    Case("anchor", "  image: &x a", "7:10", "spec.image", "the anchor &x is not allowed", "write values out"),
    Case("alias", "  image: *x", "7:10", "spec.image", "*x refers to another place", "without an alias"),
    Case("tag", "  image: !!str a", "7:10", "spec.image", "'tag:yaml.org,2002:str' is not allowed", "plain data"),
    Case("python", "  image: !!python/object:os.system []", "7:10", "spec.image", "is not allowed", "plain data"),
    Case("mapping as key", "  ? {a: b}\n  : c", "7:5", "spec", "name is not plain text", "write NAME: VALUE"),
    Case("deep", "  image: " + "[" * 30, "7:28", "spec.image" + "[0]" * 18, "more than 20 levels", "plain data"),
    Case("invisible", "  # \u202e", "7:5", "", "an invisible character (U+202E)", "delete it"),
    Case("NUL", "  # \0", "7:5", "", "an invisible character (U+0000)", "delete it"),
    Case(
        "kind", "---\napiVersion: containarium.dev/v1\nkind: Enviroment", "3:7", "kind", "is not known", "Environment"
    ),
    Case("other kind", "---\napiVersion: v1\nkind: Secret", "3:7", "kind", "'Secret' is not known", "elsewhere"),
    Case("version", "---\napiVersion: v1\nkind: Environment", "2:13", "apiVersion", "not known", "containarium.dev/v1"),
    Case("no kind", "---\napiVersion: v1", "2:1", "kind", "kind is missing", "add kind: Environment"),
    Case("no manifest", "---\nimage: x", "2:1", "", "neither apiVersion nor kind", "keep it elsewhere"),
    Case("a list", "---\n- a", "2:1", "", "a list is not a manifest", "begin with apiVersion"),
    Case("text", "---\nhello", "2:1", "", "'hello' is not a manifest", "begin with apiVersion"),
    Case("no file", "  placement: {}", "7:3", "spec.placement.host", "host is missing", "leave placement out"),
]

KEY_CASES = [
    Case("leads out", "{file: ../x}", "6:13", "spec.sshKeys[0]", "leaves the folder", "keys/alice.pub"),
    Case("absolute", "{file: /etc/shadow}", "6:13", "spec.sshKeys[0]", "leaves the folder", "keys/alice.pub"),
    Case("missing", "{file: keys/nobody.pub}", "6:13", "spec.sshKeys[0]", "keys/nobody.pub: it is not there", "add it"),
    Case("a folder", "{file: keys}", "6:13", "spec.sshKeys[0]", "not a regular file", "plain text file"),
    Case("weak", "ssh-dss AAAA", "6:13", "spec.sshKeys[0]", "DSA keys are broken", "ssh-keygen -t ed25519"),
    Case("a number", "5", "6:13", "spec.sshKeys[0]", "5 is not a key", "the line of a .pub file"),
]
"""The only entry of ``sshKeys``, which begins in line 6, column 13."""
