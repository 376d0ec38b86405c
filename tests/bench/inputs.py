"""The inputs of the benchmark: images of files that do and do not compress, the same at every run, in a store as moby
keeps its own, and a registry on loopback that has the same."""

import gzip
import hashlib
import http.server
import io
import json
import multiprocessing
import os
import random
import shutil
import tarfile
import threading

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
NAME = "docker.io/library/"
STUB = "usr/lib/systemd/boot/efi/linuxx64.efi.stub"
# What formats need beside the root, and the files of this machine that it is made of.
LOADERS = {
    "systemd-stub": [STUB],
    "syslinux": ["usr/bin/syslinux", "usr/lib/syslinux/mbr/mbr.bin", "usr/lib/syslinux/mbr/gptmbr.bin"],
    "isolinux": [
        "usr/lib/ISOLINUX/isolinux.bin",
        "usr/lib/ISOLINUX/isohdpfx.bin",
        "usr/lib/syslinux/modules/bios/ldlinux.c32",
    ],
}
FIRMWARE = ["bootcode.bin", "start.elf", "fixup.dat", "start4.elf", "fixup4.dat"]


def noise(seed, size):
    return random.Random(seed).randbytes(size)


def text(seed, size):
    """Bytes that compress to about a third."""
    words = [noise(seed * 100 + n, 3 + n % 9).hex().encode() for n in range(400)]
    chosen = random.Random(seed).choices(words, k=size // 8 + 1)
    return b" ".join(chosen)[:size]


def add(tar, path, content, mode=0o644):
    info = tarfile.TarInfo(path)
    info.size, info.mode, info.mtime = len(content), mode, 1_600_000_000
    tar.addfile(info, io.BytesIO(content))


def archive(fill):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        fill(tar)
    return out.getvalue()


def sizes(total):
    """Of files from 1 KiB to 16 MiB that have so many bytes together."""
    number, left = 0, total
    while left > 0:
        size = min([1 << 10, 20 << 10, 300 << 10, 3 << 20, 16 << 20][number % 5], left)
        yield size
        number, left = number + 1, left - size


def data(seed, size, share=1):
    """A layer of so many bytes, half of them noise, half text."""

    def fill(tar):
        for number, length in enumerate(sizes(size * share)):
            make = text if number // 5 % 2 else noise
            path = f"usr/share/data-{seed}/{number % 17}/file-{number}"
            add(tar, path, make(seed * 10_000 + number, length // share))

    return archive(fill)


def tenth(seed, size):
    """The files of a layer of ten times as many bytes, each a tenth as long: as much of it noise, as much text."""
    return data(seed, size, 10)


def many(seed, count):
    """A layer of so many files of some hundred bytes, in folders of 100."""

    def fill(tar):
        body = text(seed, 1000)
        for number in range(count):
            content = b"%d " % number + body[: number % 900]
            add(tar, f"usr/share/many-{seed}/{number // 100}/file-{number}", content)

    return archive(fill)


def small_files(seed, count):
    """A layer of so many files of 100 bytes to 10 KB, most of them small as on a root, in folders of 100."""

    def fill(tar):
        body, chance = text(seed, 10_000), random.Random(seed)
        for number in range(count):
            size = int(100 * 100 ** (chance.random() ** 1.5))
            start = chance.randrange(10_000)
            content = (b"%d " % number + body[start:] + body)[:size]
            add(tar, f"usr/share/small-{seed}/{number // 100}/file-{number}", content)

    return archive(fill)


def save(path, make, *how):
    path.write_bytes(make(*how))


def apart(function, *words):
    """Calls a function in a process that ends: what it had in memory would count as the peak of what is measured
    later."""
    child = multiprocessing.get_context("fork").Process(target=function, args=words)
    child.start()
    child.join()
    if child.exitcode:
        raise SystemExit("the inputs cannot be made")


def kernel(seed, _):
    """What begins as a program for UEFI does; a root without the modules of a kernel has all built in."""
    return archive(lambda tar: add(tar, "kernel", b"MZ" + noise(seed, 8 << 20)))


def changed(seed, size):
    """The layer of `data`, another version: one file more."""
    return data(seed, size - 4096)


class Store:
    """An OCI image layout, as moby keeps its store."""

    def __init__(self, root):
        self.index, self.blobs = root / "index.json", root / "blobs/sha256"
        self.blobs.mkdir(parents=True, exist_ok=True)
        (root / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
        self.names = json.loads(self.index.read_text())["manifests"] if self.index.exists() else []

    def blob(self, content, kind):
        digest = hashlib.sha256(content).hexdigest()
        (self.blobs / digest).write_bytes(content)
        return {"mediaType": kind, "digest": "sha256:" + digest, "size": len(content)}

    def layer(self, make, seed, size):
        """Writes a layer. Gives its descriptor and the digest of its tar."""
        tar = make(seed, size)
        packed = self.blob(gzip.compress(tar, 6, mtime=0), LAYER)
        return packed, "sha256:" + hashlib.sha256(tar).hexdigest()

    def image(self, name, packed, diff_id, arch="amd64"):
        config = {"architecture": arch, "os": "linux", "config": {}}
        config["rootfs"] = {"type": "layers", "diff_ids": [diff_id]}
        config = self.blob(json.dumps(config).encode(), CONFIG)
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [packed]}
        named = self.blob(json.dumps(manifest).encode(), MANIFEST)
        self.names.append(named | {"annotations": {"org.opencontainers.image.ref.name": NAME + name}})
        self.index.write_text(json.dumps({"schemaVersion": 2, "manifests": self.names}))

    def images(self, wanted):
        """Makes images from (name, function, seed, size), on all cores, in processes that end: what they had in memory
        would count as the peak of what is measured later."""
        with multiprocessing.get_context("fork").Pool(maxtasksperchild=1) as pool:
            made = [(name, pool.apply_async(self.layer, how)) for name, *how in wanted]
            for name, layer in made:
                self.image(name, *layer.get())
                self.image("arm64-" + name, *layer.get(), "arm64")

    def layers(self, names):
        """The paths of the layers of images."""
        named = {one["annotations"]["org.opencontainers.image.ref.name"]: one["digest"] for one in self.names}
        for name in names:
            manifest = json.loads((self.blobs / named[NAME + name].removeprefix("sha256:")).read_text())
            yield from (self.blobs / layer["digest"].removeprefix("sha256:") for layer in manifest["layers"])


def components(folder):
    """Loader components beside the blueprints: nothing is compiled or fetched. Gives the names of those that there are."""
    names = {"stage1", "raspberry-pi-firmware"}
    for name in names:
        (folder / "components" / name).mkdir(parents=True)
    stage1 = "files:\n  - {path: /init, contents: a program, mode: '0755'}\n"
    (folder / "components/stage1/build.yml").write_text("image: stage1\n" + stage1)
    firmware = "files:\n" + "".join(
        f"  - {{path: /usr/lib/raspi-firmware/{name}, contents: a program}}\n" for name in FIRMWARE
    )
    (folder / "components/raspberry-pi-firmware/build.yml").write_text("image: raspberry-pi-firmware\n" + firmware)
    for name, paths in LOADERS.items():
        if not all(os.path.exists("/" + path) for path in paths):
            continue
        component = folder / "components" / name
        component.mkdir()
        lines = []
        for path in paths:
            shutil.copy("/" + path, component)
            lines.append(f"  - {{path: /{path}, source: {os.path.basename(path)}}}\n")
        (component / "build.yml").write_text(f"image: {name}\nfiles:\n" + "".join(lines))
        names.add(name)
    return names


def serve(store):
    """A registry on loopback that has what the store has."""
    tags = {one["annotations"]["org.opencontainers.image.ref.name"]: one["digest"] for one in store.names}

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self):
            self.do_GET()

        def do_GET(self):
            # A mirror is told with `?ns=` whom it stands for.
            parts = self.path.split("?")[0].split("/")
            if self.path == "/v2/":
                return self.answer(io.BytesIO(b"{}"), 2, "application/json", "")
            name = f"{NAME}{parts[3]}:{parts[-1]}"
            digest = tags.get(name, parts[-1]) if "manifests" in parts else parts[-1]
            path = store.blobs / digest.removeprefix("sha256:")
            kind = MANIFEST if "manifests" in parts else "application/octet-stream"
            with open(path, "rb") as file:
                self.answer(file, path.stat().st_size, kind, digest)

        def answer(self, file, size, kind, digest):
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(size))
            self.send_header("Docker-Content-Digest", digest)
            self.end_headers()
            if self.command == "GET":
                shutil.copyfileobj(file, self.wfile, 1 << 20)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"127.0.0.1:{server.server_port}"
