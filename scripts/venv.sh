# Sourced by the scripts that install what tests need: tools by apt, and a Python venv of a script's own, with pinned
# packages.
# Expects in $name what the script calls itself, in $venv where the venv goes, in $pins what is in it.

say() { echo "$name: $*"; }
die() { echo "$name: error: $*" >&2; exit 1; }

# Installs by apt what is missing of tools, each as COMMAND:PACKAGE.
need_tools() {
    missing=
    for pair in "$@"; do
        PATH="$PATH:/usr/sbin:/sbin" command -v "${pair%%:*}" >/dev/null || missing="$missing ${pair##*:}"
    done
    [ -n "$missing" ] || return 0
    [ "$(id -u)" = 0 ] || die "missing$missing; install by: sudo apt-get install$missing"
    say "apt-get install$missing"
    export DEBIAN_FRONTEND=noninteractive
    log=$(mktemp)
    # shellcheck disable=SC2086
    { apt-get update -q && apt-get install -y -q --no-install-recommends $missing; } >"$log" 2>&1 || {
        tail -20 "$log" >&2
        die "apt-get could not install$missing"
    }
    rm -f "$log"
}

# Makes the venv unless it holds just these pins; then runs the command that is given, if any, as its last step.
make_venv() {
    command -v python3 >/dev/null || die "python3 is missing (scripts/test-deps.sh installs it)"
    if [ "$(cat "$venv/.pins" 2>/dev/null)" = "$pins" ] && [ -x "$venv/bin/python" ]; then
        return
    fi
    say "python venv in $venv: $pins"
    mkdir -p "$(dirname "$venv")"
    python3 -m venv "$venv" || die "python3 -m venv failed (package python3-venv)"
    # The pins hold no spaces of their own: splitting them is meant.
    # shellcheck disable=SC2086
    "$venv/bin/pip" install -q --disable-pip-version-check $pins || die "pip could not install $pins"
    "$@"
    printf '%s' "$pins" >"$venv/.pins"
}
