"""Sidecars: tags are added, all else stays byte for byte, what is no XMP is left alone; read back by exiftool."""

import json
import os
import random
import shutil
import subprocess
from xml.dom import minidom

import pytest

from xclip_cli.errors import OutputError
from xclip_cli.labels import Label, LabelSet
from xclip_cli.outputs import xmp
from xclip_cli.results import UNKNOWN, Segment, Tag, VideoResult

RDF = 'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"'
DC = 'xmlns:dc="http://purl.org/dc/elements/1.1/"'
FOREIGN = f"""<?xpacket begin='\ufeff' id='W5M0MpCehiHzreSzNTczkc9d'?>
<!-- mine -->
<x:xmpmeta xmlns:x='adobe:ns:meta/' x:xmptk='Image::ExifTool 12.57'>
<rdf:RDF {RDF}>
 <rdf:Description rdf:about='uuid:1 &amp; 2' {DC} xmlns:darktable='http://darktable.sf.net/'
   darktable:history="a&#10;b" xmlns:xmp='http://ns.adobe.com/xap/1.0/' xmp:Rating='4'>
  <dc:subject>
   <rdf:Bag>
    <rdf:li>holiday</rdf:li>
    <rdf:li>dunking</rdf:li>
   </rdf:Bag>
  </dc:subject>
  <dc:title><rdf:Alt><rdf:li xml:lang='x-default'>T &lt; U</rdf:li></rdf:Alt></dc:title>
 </rdf:Description>
</rdf:RDF>
</x:xmpmeta>
<?xpacket end='w'?>""".encode()


def inside(properties, root="rdf:RDF"):
    return f"<{root} {RDF} {DC}><rdf:Description rdf:about=''>{properties}</rdf:Description></{root}>".encode()


def subjects(document, name="dc:subject"):
    [found] = minidom.parseString(document).getElementsByTagName(name)
    return [item.firstChild.data for item in found.getElementsByTagName("rdf:li")]


def is_subsequence(part, whole):
    rest = iter(whole)
    return all(byte in rest for byte in part)


def test_a_new_sidecar_has_the_three_fields(tmp_path):
    video = str(tmp_path / "clip.mp4")
    made = xmp.sidecar(video, [("sport", "ball", "dunking"), ("a | b / c",)])
    assert not os.listdir(tmp_path)
    made.write()
    assert os.listdir(tmp_path) == ["clip.mp4.xmp"] and made.added == ["dunking", "a | b / c"]
    document = (tmp_path / "clip.mp4.xmp").read_bytes()
    assert subjects(document) == ["dunking", "a | b / c"]
    assert subjects(document, "lr:hierarchicalSubject") == ["sport|ball|dunking", "a - b / c"]
    assert subjects(document, "digiKam:TagsList") == ["sport/ball/dunking", "a | b - c"]


def test_what_is_there_stays_byte_for_byte_and_the_union_is_written():
    document, added, removed = xmp.replaced(FOREIGN, [("sport", "dunking"), ("running & <b>",)])
    assert (added, removed) == (["dunking", "running & <b>"], [])  # the one is new to the hierarchies alone
    assert is_subsequence(FOREIGN, document)
    assert subjects(document) == ["holiday", "dunking", "running & <b>"]
    assert subjects(document, "lr:hierarchicalSubject") == ["sport|dunking", "running & <b>"]
    assert b'rdf:about="uuid:1 &amp; 2"' in document
    assert xmp.replaced(document, [("sport", "dunking"), ("running & <b>",)]) == (document, [], [])
    assert xmp.replaced(document, []) == (FOREIGN, [], ["running & <b>"])
    assert b"Date" not in document


@pytest.mark.parametrize(
    "document",
    [
        inside("<dc:subject><rdf:Bag/></dc:subject>"),
        inside("<dc:subject><rdf:Bag></rdf:Bag></dc:subject>"),
        inside("<dc:subject><rdf:Bag><!-- /></rdf:Bag></dc:subject> --></rdf:Bag></dc:subject>"),
        inside("<dc:subject><rdf:Bag> <rdf:li/>/></rdf:Bag></dc:subject>"),
        inside("<dc:subject><rdf:Seq>\n</rdf:Seq\n></dc:subject>"),
        f"<rdf:RDF {RDF}/>".encode(),
        f"\ufeff<rdf:RDF {RDF}></rdf:RDF>".encode(),
        inside("<dc:subject><rdf:Bag/></dc:subject>").replace(b"rdf:", b"r:").replace(b":rdf=", b":r="),
        inside("<dc:subject><rdf:Bag/></dc:subject>").replace(b"rdf:", b"").replace(b":rdf", b""),
    ],
)  # fmt: skip
def test_any_shape_of_a_list_takes_more(document):
    result, _, _ = xmp.replaced(document, [("a",), ("b",)])
    scan = xmp._Scan(result)
    assert [[v for v in scan.values(prop) if v] for prop in (*xmp._TAGS, *xmp._NOTES)] == [["a", "b"]] * 6
    assert xmp.replaced(result, [("b",), ("a",)]) == (result, [], [])
    minidom.parseString(result)
    emptied, _, removed = xmp.replaced(result, [])
    assert removed == ["a", "b"] and not any(filter(None, xmp._Scan(emptied).values(xmp._TAGS[0])))
    minidom.parseString(emptied)


def test_a_run_replaces_the_tags_of_the_run_before_and_no_other():
    chance = random.Random(0)
    labels = ["dunking", "a", "b & c", "<d>", "é", "灌篮", "כדור", "]]>", "&amp;", '"', "x" * 300]
    document, before = FOREIGN, set()
    for _ in range(100):
        chosen = chance.sample(labels, chance.randrange(4))
        document, added, removed = xmp.replaced(document, [("sport", label) for label in chosen])
        assert set(added) == set(chosen) - before and set(removed) - {"sport|dunking"} == before - set(chosen) - {
            "dunking"
        }
        before = set(chosen)
        assert subjects(document) == ["holiday", "dunking", *(label for label in chosen if label != "dunking")] or (
            set(subjects(document)) == {"holiday", "dunking", *chosen}
        )
        assert is_subsequence(FOREIGN, document)
    assert xmp.replaced(document, [])[0] == FOREIGN


def test_what_a_run_wrote_is_taken_out_to_the_byte(tmp_path):
    video = str(tmp_path / "clip.mp4")
    xmp.sidecar(video, [("sport", "dunking")]).write()
    assert os.listdir(tmp_path) == ["clip.mp4.xmp"]
    emptied = xmp.sidecar(video, [])
    assert emptied.removed == ["dunking"]
    emptied.write()
    assert os.listdir(tmp_path) == []  # there was none before
    (tmp_path / "clip.mp4.xmp").write_bytes(FOREIGN)
    xmp.sidecar(video, [("sport", "dunking"), ("running",)]).write()
    assert (tmp_path / "clip.mp4.xmp").read_bytes() != FOREIGN
    xmp.sidecar(video, []).write()
    assert (tmp_path / "clip.mp4.xmp").read_bytes() == FOREIGN


def test_tags_of_the_user_and_of_other_programs_stay():
    document, _, _ = xmp.replaced(FOREIGN, [("running",), ("dunking",)])
    theirs = document.replace(
        b"<rdf:li>running</rdf:li></rdf:Bag>\n  </dc", b"<rdf:li>running</rdf:li><rdf:li>x</rdf:li></rdf:Bag>\n  </dc"
    )
    assert theirs != document
    assert subjects(xmp.replaced(theirs, [])[0]) == ["holiday", "dunking", "x"]
    assert subjects(xmp.replaced(theirs, [("boxing",)])[0]) == ["holiday", "dunking", "x", "boxing"]
    without_ours = theirs.replace(b"<rdf:li>running</rdf:li><rdf:li>x", b"<rdf:li>x")  # the user took it out
    assert subjects(xmp.replaced(without_ours, [])[0]) == ["holiday", "dunking", "x"]


BOMB = b'<!DOCTYPE x [<!ENTITY a "aa"><!ENTITY b "&a;&a;">]>' + inside("<dc:subject>&b;</dc:subject>")
THIEF = b'<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>' + inside("<dc:subject>&a;</dc:subject>")


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (b"", "no XML"),
        (b"not XML at all", "no XML"),
        (b"<html></html>", "no XMP"),
        (BOMB, "document type"),
        (THIEF, "document type"),
        (BOMB.decode().encode("utf-16"), "not UTF-8"),
        (b'<?xml version="1.0" encoding="latin-1"?>' + inside(""), "not UTF-8"),
        (inside("<dc:subject>a, b</dc:subject>"), "dc:subject is no list"),
        (inside("").replace(b"rdf:about=''", b"rdf:about='' dc:subject='a'"), "dc:subject is no list"),
        (inside("") + b"<more/>", "no XML"),
        (FOREIGN[:-200], "no XML"),
        (b"<a>" * 100_000, "nested"),
        (inside("<rdf:li/>" * 200_000), "more than 100000 elements"),
        (inside("<x:subject xmlns:x='urn:xclip-cli:added/1.0/'>a</x:subject>"), "xclip:subject is no list"),
    ],
)
def test_what_is_no_xmp_is_named_and_left_alone(tmp_path, document, reason):
    file = tmp_path / "clip.mp4.xmp"
    file.write_bytes(document)
    with pytest.raises(OutputError, match=reason) as caught:
        xmp.sidecar(str(tmp_path / "clip.mp4"), [("running",)])
    assert "clip.mp4.xmp" in caught.value.message and file.read_bytes() == document


@pytest.mark.skipif(os.name != "posix", reason="needs FIFOs and links")
def test_no_pipe_is_read_and_a_link_leads_to_its_file(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4.xmp")
    (tmp_path / "lost.mp4.xmp").symlink_to(tmp_path / "nowhere")
    for name in ("pipe", "lost"):
        with pytest.raises(OutputError):
            xmp.sidecar(str(tmp_path / f"{name}.mp4"), [("a",)])
    (tmp_path / "real.xmp").write_bytes(FOREIGN)
    (tmp_path / "linked.mp4.xmp").symlink_to("real.xmp")
    xmp.sidecar(str(tmp_path / "linked.mp4"), [("a",)]).write()
    assert (tmp_path / "linked.mp4.xmp").is_symlink() and "a" in subjects((tmp_path / "real.xmp").read_bytes())


@pytest.mark.skipif(os.name != "posix", reason="needs modes")
def test_a_read_only_sidecar_is_left_alone(tmp_path):
    file = tmp_path / "clip.mp4.xmp"
    file.write_bytes(FOREIGN)
    file.chmod(0o444)
    with pytest.raises(OutputError, match="it is read-only"):
        xmp.sidecar(str(tmp_path / "clip.mp4"), [("a",)])
    assert file.read_bytes() == FOREIGN


@pytest.mark.parametrize(
    ("names", "chosen", "others"),
    [
        ([], "IMG_1.MP4.xmp", []),
        (["IMG_1.MP4.xmp"], "IMG_1.MP4.xmp", []),
        (["IMG_1.MP4.XMP"], "IMG_1.MP4.XMP", ["IMG_1.MP4.XMP"]),
        (["img_1.mp4.xmp"], "img_1.mp4.xmp", ["img_1.mp4.xmp"]),
        (["img_1.mp4.xmp", "img_1.mp4"], "IMG_1.MP4.xmp", []),  # another video's
        (["IMG_1.MP4.XMP", "IMG_1.MP4.xmp"], "IMG_1.MP4.xmp", ["IMG_1.MP4.XMP"]),
        (["IMG_1.xmp"], "IMG_1.MP4.xmp", ["IMG_1.xmp"]),
        (["IMG_10.xmp", "IMG_1.txt"], "IMG_1.MP4.xmp", []),
    ],
)
def test_a_sidecar_of_another_spelling_is_found_and_named(tmp_path, names, chosen, others):
    for name in ("IMG_1.MP4", *names):
        (tmp_path / name).write_bytes(FOREIGN)
    if len(os.listdir(tmp_path)) < len(names) + 1:
        pytest.skip("needs names that differ in case")
    made = xmp.sidecar(str(tmp_path / "IMG_1.MP4"), [("a",)])
    assert (made.path.name, made.others) == (chosen, others)
    made.write()
    assert "a" in subjects((tmp_path / chosen).read_bytes())
    assert {path.name for path in tmp_path.iterdir()} == {"IMG_1.MP4", *names, chosen}


@pytest.mark.parametrize(
    ("labels", "floor"), [(1, 0.5), (2, 0.5), (4, 0.5), (5, 0.4), (8, 0.25), (26, 0.25), (700, 0.25)]
)
def test_a_tag_needs_twice_an_even_share(labels, floor):
    assert xmp.floor(labels) == pytest.approx(floor)
    few = LabelSet("few", (Label("a", ("a",)), Label("b", ("b",))))
    for score in (floor, floor - 0.01):
        result = VideoResult("a.mp4", "m", "few", (Segment(0, 1, (Tag("a", score, 0.1), Tag("b", 0.1, 0.1))),))
        assert xmp.keywords(result, few, None, (), xmp.floor(labels)) == ([("a",)] if score == floor else [])
        assert xmp.keywords(result, few, None, {"a", "b"}, xmp.floor(labels)) == [("a",), ("b",)]
    timeline = VideoResult("a.mp4", "m", "few", (Segment(0, 1, (Tag("a", 0.1, 0.1, 0.2, 0.5),)),))
    assert xmp.keywords(timeline, few, None, (), xmp.floor(labels)) == [("a",)]  # it has passed a threshold


def test_the_best_of_each_segment_is_kept_and_others_where_a_threshold_speaks_for_them():
    labels = LabelSet(
        "dogs",
        (
            Label("dunking", ("dunking",), parent="Basketball", names={"zh": "灌篮"}),
            Label("basketball", ("basketball",), parent="sport"),
            Label("two\nlines", ("lines",)),
        ),
    )
    tags = tuple(Tag(name, 0.3, 0.1) for name in ("灌篮", "two\nlines"))
    result = VideoResult("a.mp4", "m", "dogs", (Segment(0, 1, tags), Segment(1, 2, tags)))
    assert xmp.keywords(result, labels, "zh", ()) == [("sport", "Basketball", "灌篮")]
    assert xmp.keywords(result, labels, "zh", {"two\nlines"})[1:] == [("two lines",)]
    unknown = VideoResult("a.mp4", "m", "dogs", (Segment(0, 1, (Tag(UNKNOWN, 0.9, 0.1), *tags)),))
    assert xmp.keywords(unknown, labels, "zh", {"灌篮"}) == []


@pytest.mark.skipif(shutil.which("exiftool") is None, reason="exiftool is not installed")
def test_exiftool_reads_the_tags_and_all_that_was_there(tmp_path):
    names = ["dunking", 'say "hi" & <b>', "灌篮", "כדורסל", "a | b / c"]
    (tmp_path / "old.mp4.xmp").write_bytes(FOREIGN)
    for video in ("old.mp4", "new.mp4"):
        xmp.sidecar(str(tmp_path / video), [("sport", name) for name in names]).write()
    command = ["exiftool", "-json", "-charset", "utf8", "-warning", "-all", "new.mp4.xmp", "old.mp4.xmp"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=True)
    new, old = json.loads(done.stdout)
    assert new["Subject"] == names and old["Subject"] == ["holiday", *names]
    assert new["HierarchicalSubject"] == old["HierarchicalSubject"] == [f"sport|{n.replace('|', '-')}" for n in names]
    assert new["TagsList"] == old["TagsList"] == [f"sport/{n.replace('/', '-')}" for n in names]
    assert (old["Rating"], old["Title"], old["About"]) == (4, "T < U", "uuid:1 & 2")
    assert "Warning" not in new and "Warning" not in old


@pytest.mark.skipif(shutil.which("exiftool") is None, reason="exiftool is not installed")
def test_what_exiftool_has_rewritten_is_still_known_as_ours(tmp_path):
    file = tmp_path / "clip.mp4.xmp"
    file.write_bytes(FOREIGN)
    xmp.sidecar(str(tmp_path / "clip.mp4"), [("sport", "running"), ("sport", "dunking")]).write()
    command = ["exiftool", "-overwrite_original", "-XMP-dc:Subject+=mine", "-XMP-xmp:Rating=5", file]
    subprocess.run(command, capture_output=True, check=True)
    assert xmp.sidecar(str(tmp_path / "clip.mp4"), [("sport", "running"), ("sport", "dunking")]).added == []
    xmp.sidecar(str(tmp_path / "clip.mp4"), []).write()
    done = subprocess.run(["exiftool", "-json", "-warning", "-all", file], capture_output=True, check=True)
    [read] = json.loads(done.stdout)
    assert (read["Subject"], read["Rating"], read["Title"]) == (["holiday", "dunking", "mine"], 5, "T < U")
    assert not {"HierarchicalSubject", "TagsList", "Warning"} & set(read) and b"xclip" not in file.read_bytes()
