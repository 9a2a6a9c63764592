"""What is refused: the message names the cause, in one line, and nothing that the file names is opened."""

import ctypes
import gzip
import os
import re
import sys
import zipfile

import pytest
from as_shown import ALL_READERS
from numbered_clips import run_ffmpeg

from xclip_cli.errors import VideoError
from xclip_cli.video.reader import open_reader, read_clip

X264 = ("-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p")


@pytest.fixture(scope="module", params=ALL_READERS)
def reader(request):
    if request.param == "decord":
        pytest.importorskip("decord")
    return open_reader(request.param)


@pytest.fixture(scope="module")
def mp4(numbered):
    return numbered("refused.mp4", 40, *X264).read_bytes()


def refusal(reader, path) -> str:
    with pytest.raises(VideoError) as caught:
        read_clip(reader, str(path), 8)
    message = caught.value.message
    assert "\n" not in message and len(message) < 400 and "Error:" not in message
    return (message + " " + (caught.value.hint or "")).replace(os.path.basename(path), "")


CONTENTS = {
    "empty": (b"", r"empty"),
    "web page": (b"<!DOCTYPE html>\n<html><body>Sign in</body></html>", r"(?i)web page|html"),
    "web page after blanks": (b"\xef\xbb\xbf\n\n <html><body>404</body></html>", r"(?i)web page|html"),
    "server error": (b'<?xml version="1.0"?>\n<Error><Code>Denied</Code></Error>', r"(?i)xml|text|playlist|no video"),
    "JSON": (b'{"error": {"code": 403}}', r"(?i)json|text|no video"),
    "LFS": (b"version https://git-lfs.github.com/spec/v1\noid sha256:12ab\nsize 12\n", r"(?i)git.?lfs"),
    "letter": (b"Too Many Requests\n" * 9, r"(?i)text|no video"),
    "gzip": (gzip.compress(bytes(999)), r"(?i)gzip|archive|compressed|no video"),
    "PDF": (b"%PDF-1.7\n" + bytes(999), r"(?i)pdf|no video"),
    "program": (b"\x7fELF" + bytes(999), r"(?i)no video"),
    "zeros": (bytes(9999), r"(?i)no video|zero"),
}


@pytest.mark.parametrize("name", CONTENTS)
def test_what_is_no_video_at_all(reader, tmp_path, name):
    content, cause = CONTENTS[name]
    (tmp_path / "a.mp4").write_bytes(content)
    message = refusal(reader, tmp_path / "a.mp4")
    assert re.search(cause, message), message


def test_an_archive(reader, tmp_path, mp4):
    with zipfile.ZipFile(tmp_path / "a.mp4", "w") as archive:
        archive.writestr("inside.mp4", mp4)
    assert any(word in refusal(reader, tmp_path / "a.mp4").lower() for word in ("zip", "archive", "no video"))


@pytest.mark.parametrize("kept", [0.3, 0.9, 40])
def test_a_recording_that_was_never_finished(reader, tmp_path, mp4, kept):
    end = mp4.rindex(b"moov") - 4
    (tmp_path / "a.mp4").write_bytes(mp4[: kept if kept > 1 else int(end * kept)])
    message = refusal(reader, tmp_path / "a.mp4").lower()
    assert any(word in message for word in ("moov", "index", "finish", "cut", "incomplete", "truncated", "header"))


@pytest.mark.parametrize("sound", [(), ("-f", "lavfi", "-i", "sine=d=1.6")], ids=["silent", "with sound"])
def test_an_encrypted_video(reader, tmp_path, numbered, sound):
    key = ("-encryption_scheme", "cenc-aes-ctr", "-encryption_key", "76a6c65c5ea762046bd749a2e632ccbb")
    source = numbered("refused.mp4", 40, *X264)
    kid = ("-encryption_kid", "a7e61c373e219033c21091fa607bf3b8")
    run_ffmpeg("-i", source, *sound, "-c:v", "copy", *key, *kid, tmp_path / "a.mp4")
    assert any(word in refusal(reader, tmp_path / "a.mp4").lower() for word in ("encrypt", "protected", "drm"))


def test_a_codec_that_nobody_knows(reader, tmp_path, mp4):
    start = mp4.rindex(b"avc1")
    (tmp_path / "a.mp4").write_bytes(mp4[:start] + b"zzzz" + mp4[start + 4 :])
    assert any(word in refusal(reader, tmp_path / "a.mp4").lower() for word in ("codec", "decod", "zzzz"))


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "mp3", "ts", "avi", "flac", "wav"])
def test_sound_alone(reader, tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    run_ffmpeg("-f", "lavfi", "-i", "sine=d=1", path)
    assert "no video" in refusal(reader, path)


@pytest.mark.parametrize("suffix", ["mp3", "m4a", "mp4", "flac", "mka"])
def test_sound_with_a_cover(reader, tmp_path, suffix):
    run_ffmpeg("-f", "lavfi", "-i", "testsrc=s=200x200", "-frames:v", "1", tmp_path / "cover.jpg")
    sound = ("-f", "lavfi", "-i", "sine=d=1", "-i", tmp_path / "cover.jpg", "-map", "0", "-map", "1")
    codecs = ("-c:v", "copy", "-disposition:v:0", "attached_pic")
    run_ffmpeg(*sound, *codecs, tmp_path / f"a.{suffix}")
    message = refusal(reader, tmp_path / f"a.{suffix}")
    assert "no video" in message and "cover" in message


def lists_of(url: str) -> dict[str, str]:
    """Every disguise in which a text makes a decoder open ``url``."""
    hls = f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{url}\n#EXT-X-ENDLIST\n"
    segments = f'<SegmentList duration="3"><SegmentURL media="{url}"/></SegmentList>'
    representation = f'<Representation id="1" bandwidth="9"><BaseURL>{url}</BaseURL>{segments}</Representation>'
    kind = 'type="static" mediaPresentationDuration="PT3S" profiles="urn:mpeg:dash:profile:isoff-on-demand:2011"'
    mpd = f'<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" {kind}><Period><AdaptationSet mimeType="video/mp4">'
    mpd += f"{representation}</AdaptationSet></Period></MPD>"
    concat = f"ffconcat version 1.0\nfile '{url}'\n"
    session = "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 9 RTP/AVP 96\n"
    return {
        "hls.m3u8": hls,
        "hls.mp4": hls,
        "hls-blanks.mp4": " \n\t\n" + hls,
        "hls-mark.mp4": "\ufeff\n" + hls,
        "hls-comment.mp4": "# a comment\n" + hls,
        "hls-far.mp4": " " * 5000 + hls,
        "master.m3u8": f"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=9\n{url}\n",
        "key.m3u8": hls.replace("#EXTINF", f'#EXT-X-KEY:METHOD=AES-128,URI="{url}"\n#EXTINF'),
        "concat.txt": concat,
        "concat.mp4": "\n# x\n" + concat,
        "concat-bare.mp4": f"file '{url}'\n",
        "dash.mpd": '<?xml version="1.0"?>\n' + mpd,
        "dash.mp4": mpd,
        "dash-comment.mp4": "<!-- -->\n" + mpd,
        "dash-far.mp4": "<!-- " + "x" * 900 + " -->\n" + mpd,
        "dash-doctype.mp4": "<!DOCTYPE MPD>\n" + mpd,
        "session.sdp": session,
        "session.mp4": session.removeprefix("v=0\n"),
        "a.asx": f'<ASX version="3.0"><Entry><Ref href="{url}"/></Entry></ASX>',
        "a.pls": f"[playlist]\nFile1={url}\nNumberOfEntries=1\n",
        "a.ram": url + "\n",
        "a.smil": f'<smil><body><video src="{url}"/></body></smil>',
        "a.mov": f"RTSPtext\n{url}\n",
        "a.xspf": f'<?xml version="1.0"?><playlist version="1"><location>{url}</location></playlist>',
        "a.svg": f'<svg xmlns="http://www.w3.org/2000/svg"><image href="{url}"/></svg>',
    }


def test_no_disguise_of_an_address_is_opened(reader, ear, tmp_path):
    server, asked = ear
    for name, text in lists_of(f"{server}/a.mp4").items():
        (tmp_path / name).write_text(text, encoding="utf-8")
        refusal(reader, tmp_path / name)
        assert asked == [], name


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="inotify is Linux's")
@pytest.mark.parametrize("form", ["file://{}", "{}", "../target/a.mp4"], ids=["address", "absolute", "relative"])
def test_no_disguise_of_a_local_file_is_opened(reader, tmp_path, mp4, form):
    target = tmp_path / "target"
    target.mkdir()
    (target / "a.mp4").write_bytes(mp4)
    (tmp_path / "lists").mkdir()
    libc = ctypes.CDLL(None)
    watch = libc.inotify_init1(os.O_NONBLOCK)
    libc.inotify_add_watch(watch, os.fsencode(target), 0x20)  # IN_OPEN
    try:
        for name, text in lists_of(form.format(target / "a.mp4")).items():
            (tmp_path / "lists" / name).write_text(text, encoding="utf-8")
            refusal(reader, tmp_path / "lists" / name)
            with pytest.raises(BlockingIOError):
                raise AssertionError(f"{name}: {os.read(watch, 4096)!r}")
        (target / "a.mp4").read_bytes()
        assert os.read(watch, 4096)  # the watch does see what is opened
    finally:
        os.close(watch)
