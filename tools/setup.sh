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

can_be_root() {
    [ "$(id -u)" = 0 ] || { command -v sudo >/dev/null && { [ -t 0 ] || sudo -n true 2>/dev/null; }; }
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# Says which commands root has to run, one a line, and stops.
for_root() {
    say "these steps need root, and there is no usable sudo. Run as root, then call make again:"
    printf '    %s\n' "$@"
    exit 1
}

# One unreachable third-party source must not stop the set-up: what matters is whether the packages then install.
apt_update() { as_root apt-get update -q >/dev/null || say "apt-get update reported errors; going on"; }

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
        can_be_root || for_root "apt-get update" "apt-get install -y $package"
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

backports_list=/etc/apt/sources.list.d/mdls-cosim-backports.sources

# The deb822 entry of a release's backports suite, on the mirror that the machine's own apt sources name.
# apt-get lists only indexes that it has fetched: call apt-get update first.
backports_entry() {
    local codename=$1 uri keyring=/usr/share/keyrings/debian-archive-keyring.gpg
    uri=$(apt-get indextargets --format '$(RELEASE)|$(COMPONENT)|$(REPO_URI)' 'Created-By: Packages' \
        | grep "^$codename|main|" | head -n 1 | cut -d'|' -f3 || true)
    [ -n "$uri" ] || return 1
    printf 'Types: deb\nURIs: %s\nSuites: %s-backports\nComponents: main\n' "$uri" "$codename"
    if [ -r "$keyring" ]; then printf 'Signed-By: %s\n' "$keyring"; fi
}

bring_ngspice() {
    if ! on_debian; then
        say "no ngspice with KLU was found; see 'Other systems' in README.md for what to install"
        return 0
    fi
    local codename suite=() packages=(ngspice libngspice0 libngspice0-dev) entry
    codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
    if [ "$codename" = bookworm ]; then suite=(-t bookworm-backports); fi
    if ! can_be_root; then
        if [ "$codename" = bookworm ]; then
            # Without fetched lists apt does not tell its mirrors: the next call then knows the rest.
            entry=$(backports_entry "$codename") || for_root "apt-get update"
            for_root "printf '%s\\n' $(printf '%s\n' "$entry" | sed "s/.*/'&'/" | tr '\n' ' ')>$backports_list" \
                "apt-get update" "apt-get install -y ${suite[*]} ${packages[*]}"
        fi
        for_root "apt-get update" "apt-get install -y ${suite[*]} ${packages[*]}"
    fi
    apt_update
    if [ "$codename" = bookworm ] \
        && ! apt-get indextargets --format '$(RELEASE)' 'Created-By: Packages' | grep -qx bookworm-backports; then
        if ! backports_entry bookworm >.venv/mdls-cosim-backports.sources; then
            say "the machine's apt sources name no mirror of bookworm/main; add its backports suite by hand"
            return 0
        fi
        say "adding the bookworm-backports suite to the apt sources"
        as_root install -m 644 .venv/mdls-cosim-backports.sources "$backports_list"
        apt_update
    fi
    say "installing ngspice"
    apt_install "${suite[@]}" "${packages[@]}" || say "the packages did not install (the lines above say why)"
}

make_venv
if [ "$(solver)" != klu ]; then
    bring_ngspice
fi
case "$(solver)" in
    klu) say "ngspice solves with KLU" ;;
    sparse) say "only an ngspice without KLU was found: it works, but 64x64 tiles take 100 times longer (mdls-cosim doctor)" ;;
    *)
        say "no ngspice library answers. See 'Other systems' in README.md for what to install, then call make again;"
        say ".venv/bin/mdls-cosim doctor tells more"
        exit 1
        ;;
esac
echo "$wanted" >"$stamp"
say "done"
