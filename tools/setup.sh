#!/usr/bin/env bash
# Brings everything that `make demo` and `make test` need: a virtual environment in .venv and an ngspice with the
# KLU matrix solver. A second run finds the stamp and returns at once; a changed pyproject.toml or set-up script
# runs it again.
set -euo pipefail
cd "$(dirname "$0")/.."

stamp=.venv/.setup-stamp
wanted=$(cat pyproject.toml tools/setup.sh | sha256sum | cut -d' ' -f1)
if [ "${1:-}" != "--force" ] && [ -x .venv/bin/mdls-cosim ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
    exit 0
fi

say() { printf '\033[1m[set-up]\033[0m %s\n' "$*"; }

on_debian() { command -v apt-get >/dev/null && [ -r /etc/debian_version ]; }

# Runs a command as root, or says exactly what to run and stops.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null && { [ -t 0 ] || sudo -n true 2>/dev/null; }; then
        sudo "$@"
    else
        say "this step needs root, and there is no usable sudo. Run as root, then call make again:"
        printf '    %q' "$@"
        printf '\n'
        return 77
    fi
}

# One unreachable third-party source must not stop the set-up: what matters is whether the packages then install.
apt_update() {
    as_root apt-get update -q >/dev/null || [ $? != 77 ] || return 77
}

apt_install() { as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"; }

find_python() {
    local name
    for name in "${PYTHON:-}" python3.11 python3 python3.12 python3.13 python; do
        if [ -n "$name" ] && command -v "$name" >/dev/null \
            && "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$name"
            return 0
        fi
    done
    say "no Python 3.11 or newer was found; install one, or name it: make setup PYTHON=/path/to/python3.11" >&2
    return 1
}

make_venv() {
    local python
    python=$(find_python)
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        if ! on_debian; then
            say "$python has no venv/ensurepip module; install your system's Python venv package, then call make again"
            return 1
        fi
        local package
        package=$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
        say "installing $package"
        apt_update
        apt_install "$package"
    fi
    if ! .venv/bin/python -c 'import pip' 2>/dev/null; then
        say "making .venv"
        rm -rf .venv
        "$python" -m venv .venv
    fi
    say "installing torch"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
    say "installing mdls_cosim and its test tools"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
}

# Ready means: a KLU solve succeeds through the shared library, whatever the packages say.
solver() { .venv/bin/python -m mdls_cosim.spice.probe --solver 2>/dev/null || true; }

# Adds this release's backports suite, on the mirror that the machine's own apt sources name.
# apt-get lists only indexes that it has fetched: call apt-get update first.
add_backports() {
    local codename=$1 uri keyring=/usr/share/keyrings/debian-archive-keyring.gpg
    if apt-get indextargets --format '$(RELEASE)' 'Created-By: Packages' | grep -qx "$codename-backports"; then
        return 0
    fi
    uri=$(apt-get indextargets --format '$(RELEASE)|$(COMPONENT)|$(REPO_URI)' 'Created-By: Packages' \
        | grep "^$codename|main|" | head -n 1 | cut -d'|' -f3 || true)
    if [ -z "$uri" ]; then
        say "the machine's apt sources name no mirror for $codename/main; add its backports suite by hand"
        return 1
    fi
    say "adding the $codename-backports suite of $uri"
    {
        printf 'Types: deb\nURIs: %s\nSuites: %s-backports\nComponents: main\n' "$uri" "$codename"
        if [ -r "$keyring" ]; then printf 'Signed-By: %s\n' "$keyring"; fi
    } >.venv/mdls-cosim-backports.sources
    as_root install -m 644 .venv/mdls-cosim-backports.sources /etc/apt/sources.list.d/mdls-cosim-backports.sources
    apt_update
}

bring_ngspice() {
    if ! on_debian; then
        say "no ngspice with KLU was found; see 'Other systems' in README.md for what to install"
        return 1
    fi
    local codename packages=(ngspice libngspice0 libngspice0-dev)
    codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
    apt_update
    if [ "$codename" = bookworm ]; then
        add_backports bookworm
        say "installing ngspice from backports"
        apt_install -t bookworm-backports "${packages[@]}"
    else
        say "installing ngspice"
        apt_install "${packages[@]}"
    fi
}

make_venv
if [ "$(solver)" != klu ]; then
    bring_ngspice || say "ngspice was not brought (the message above says why)"
fi
case "$(solver)" in
    klu) say "ngspice solves with KLU" ;;
    sparse) say "only an ngspice without KLU was found: it works, but 64x64 tiles take 100 times longer (mdls-cosim doctor)" ;;
    *)
        say "no ngspice library answers. As root:"
        say "    apt-get update && apt-get install -y -t bookworm-backports ngspice libngspice0 libngspice0-dev"
        say "(see 'Other systems' in README.md outside Debian), then call make again; mdls-cosim doctor tells more"
        exit 1
        ;;
esac
echo "$wanted" >"$stamp"
say "done"
