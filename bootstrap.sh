#!/usr/bin/env bash
# Sets this clone up: Debian packages that are missing, then .venv as requirements.lock says. `make`
# runs it before every target. It ends at once when nothing is missing.
#
#   ./bootstrap.sh            what the platform needs
#   ./bootstrap.sh --tests    also what its tests need: a browser, a local MySQL server in any case,
#                             and a real MySQL in the user's cache folder. Without the last, some
#                             tests are skipped.
#   ./bootstrap.sh uv ARGS…   after set-up, uv with the package sources that pip is configured for
#   ./bootstrap.sh doctor     changes nothing: says what is missing here, also before set-up
set -euo pipefail
shopt -s globstar
cd "$(dirname "${BASH_SOURCE[0]}")"

# Without bytecode files every Dagster process would start seconds later.
unset PYTHONDONTWRITEBYTECODE
# Servers are in folders that most users' PATH lacks.
PATH=$PATH:/usr/local/sbin:/usr/sbin

readonly needed_gib=3 # what .venv takes, and the packages while they are unpacked
readonly stamp=.venv/set-up
readonly mode=${1:-}

have() { command -v "$1" >/dev/null; }

# Java 17 or newer, where Spark will look for it.
have_java() {
  local java=${JAVA_HOME:+$JAVA_HOME/bin/}java version
  have "$java" || return 1
  version=$("$java" -version 2>&1) || return 1
  [[ $version =~ \"([0-9]+) ]] && ((BASH_REMATCH[1] >= 17))
}

# Sets the array `unnamed`: the settings of MySQL sources whose servers the user does not name, in
# the environment or in .env. A local server is for them. .env.example, which is derived from the
# declared sources, lists them under headings.
find_unnamed_mysql_servers() {
  local line name heading=
  unnamed=()
  while read -r line; do
    case $line in
      '# --- '*) heading=$line ;;
      '#SOFTCART_'*_TLS_VERIFY_HOST=*) ;;
      '#SOFTCART_'*_HOST=*)
        name=${line#\#} name=${name%%=*}
        [[ $heading != '# --- MySQL '* || -n ${!name:-} ]] ||
          grep -qsE "^(export )?$name=." .env || unnamed+=("$name")
        ;;
    esac
  done <.env.example
}

# Java's driver for PostgreSQL, which the local Hive metastore needs.
have_java_driver() {
  [[ -f /usr/share/java/postgresql.jar || -n ${SOFTCART_HIVE_METASTORE_URI:-} ]] ||
    grep -qsE '^(export )?SOFTCART_HIVE_METASTORE_URI=.' .env
}

find_python() {
  local name
  for name in python3 python3.13 python3.12 python3.11; do
    if have "$name" && "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
      python=$(command -v "$name")
      return
    fi
  done
  return 1
}

venv_is_current() {
  [[ -f $stamp && $(<"$stamp") == "$wanted" ]] && .venv/bin/python -c '' &&
    compgen -G 'softcart_assets/ingestion/codec/logrows.*.so' >/dev/null
}

# Sets the array `missing`.
find_missing_packages() {
  missing=()
  have_java || missing+=(openjdk-17-jre-headless)
  have_java_driver || missing+=(libpostgresql-jdbc-java)
  find_unnamed_mysql_servers
  if [[ $mode == --tests ]] || ((${#unnamed[@]})); then
    have mysqld || have mariadbd || missing+=(mariadb-server-core mariadb-client-core)
  fi
  if [[ $mode == --tests ]]; then
    have chromium || missing+=(chromium)
    have chromedriver || missing+=(chromium-driver)
  fi
  venv_is_current && return
  if find_python; then
    "$python" -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
    # Our own .pyx files are compiled here.
    "$python" -c 'import sysconfig; open(sysconfig.get_path("include") + "/Python.h")' 2>/dev/null || missing+=(python3-dev)
  else
    missing+=(python3 python3-venv python3-dev)
  fi
  have gcc || missing+=(gcc libc6-dev)
  { have gcc && gcc -E -x c - <<<'#include <openssl/evp.h>' &>/dev/null; } || missing+=(libssl-dev)
}

# How apt-get becomes root: the array `as_root`. Fails with `reason` if it cannot.
find_root() {
  as_root=() reason=
  if ! have apt-get; then
    reason="there is no apt-get here"
  elif ((EUID == 0)); then
    return
  elif ! have sudo; then
    reason="apt-get needs root, and there is no sudo here"
  elif sudo -n true 2>/dev/null; then
    as_root=(sudo -n)
  elif [[ -t 0 && -t 2 ]]; then
    as_root=(sudo) # asks for the password
  else
    reason="apt-get needs root, and \`sudo -n\` is refused"
  fi
  [[ -z $reason ]]
}

# What the user can do about the missing packages.
advise() {
  local package
  echo "Ask someone who may:  sudo apt-get install --no-install-recommends ${missing[*]}"
  echo "Or do without:"
  for package in "${missing[@]}"; do
    case $package in
      openjdk-*) echo "  $package: set JAVA_HOME to a Java 17 or newer" ;;
      libpostgresql-jdbc-java)
        echo "  $package: name a Hive metastore of your own with SOFTCART_HIVE_METASTORE_URI"
        ;;
      mariadb-server-core)
        echo "  $package, mariadb-client-core: put a mysqld on PATH" \
          "or name MySQL servers of your own with ${unnamed[*]:-the settings in .env.example}" \
          "(the tests need a local one)"
        ;;
      mariadb-client-core) ;;
      chromium*)
        echo "  $package: put chromium and chromedriver on PATH (only the tests need them)"
        ;;
      python3*)
        echo "  $package: put a complete Python 3.11 or newer (headers, venv) on PATH as python3"
        ;;
      *)
        echo "  $package: put a gcc on PATH that finds OpenSSL with its headers"
        ;;
    esac
  done
}

# Ends with what the user can do about the missing packages; $1 says why we could not install them.
give_up() {
  {
    echo "SoftCart needs these Debian packages, and they could not be installed: ${missing[*]}"
    echo "Reason: $1."
    advise
  } >&2
  exit 1
}

install_missing_packages() {
  local as_root reason output
  find_root || give_up "$reason"
  if [[ ${as_root[*]} == sudo ]]; then
    echo "These Debian packages are missing: ${missing[*]}. sudo asks for your password."
    # Here and not below, where its question would be taken for output of apt-get.
    sudo -v || give_up "sudo is refused"
  fi
  # Waits for another apt-get, as when two clones are set up at once.
  local apt_get=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive
    apt-get -q -o DPkg::Lock::Timeout=300)
  echo "Installing Debian packages: ${missing[*]}"
  # The lock of the package lists has no such option.
  until output=$("${apt_get[@]}" update 2>&1) || [[ $output != *"Could not get lock"* ]] ||
    ((SECONDS > 300)); do
    sleep 2
  done
  "${apt_get[@]}" install --yes --no-install-recommends "${missing[@]}" ||
    give_up "apt-get install failed, see above; apt-get update said: $(tail -n 2 <<<"$output")"
  find_missing_packages
  ((${#missing[@]} == 0)) ||
    give_up "they are installed, but PATH or JAVA_HOME leads to other programs of their names"
}

# uv does not read pip's configuration. Hands over the package sources, unless uv has its own.
use_package_sources_of_pip() {
  local config index extra links certificates
  config=$(.venv/bin/python -m pip config list)
  # Lines like global.index-url='https://…'; those of the environment come first.
  setting() { sed -nE "s/^[^=]*\.$1='(.*)'\$/\1/p" <<<"$config" | head -n 1 | sed 's/\\n/ /g'; }
  index=$(setting index-url) extra=$(setting extra-index-url)
  links=$(setting find-links) certificates=$(setting cert)
  [[ -z $index ]] || export UV_DEFAULT_INDEX=${UV_DEFAULT_INDEX:-$index}
  # As pip does: the wanted version may come from any of the sources.
  [[ -z $extra ]] || export UV_INDEX=${UV_INDEX:-$extra}
  [[ -z $extra ]] || export UV_INDEX_STRATEGY=${UV_INDEX_STRATEGY:-unsafe-best-match}
  [[ -z $links ]] || export UV_FIND_LINKS=${UV_FIND_LINKS:-${links// /,}}
  [[ -z $certificates ]] || export SSL_CERT_FILE=${SSL_CERT_FILE:-$certificates}
}

# Runs a step of the installation in silence. If it fails, says why and what to do, and ends.
step() {
  local output reason
  output=$("$@" 2>&1) && return
  case $output in
    *"No space left"*) reason="the disk is full. Make room for $needed_gib GiB in $PWD" ;;
    *[Hh]ash*ismatch* | *"DO NOT MATCH THE HASHES"*)
      reason="a package source has another file than requirements.lock was made from"
      ;;
    *"name resolution"* | *"dns error"* | *"timed out"* | *"onnection refused"* | *nreachable* | \
      *"error sending request"* | *"roxy"*)
      reason="the package source cannot be reached. Check the network, HTTPS_PROXY and"
      reason+=" \`.venv/bin/python -m pip config list\`"
      ;;
    *"No matching distribution"* | *"not found in the package registry"* | *"no version of"*)
      reason="the package source lacks a version that requirements.lock names"
      ;;
    *"ermission denied"*) reason="$(id -un) may not write to $PWD" ;;
    *"gcc"* | *"ailed to build"*) reason="a package could not be compiled" ;;
    *) reason="see above" ;;
  esac
  printf '%s\n' "$output" "Setting up .venv failed: $reason." \
    "\`make doctor\` looks at what set-up needs. Then run this again." >&2
  exit 1
}

# Compiles what a demo imports, in two processes. To compile all packages would take three times as
# long. Python compiles every other module when somebody first imports it, so a failure only costs
# time.
compile_what_is_imported() {
  .venv/bin/python -c 'import softcart_assets.demo, dbt.cli.main' &>/dev/null &
  .venv/bin/python -c 'import mlflow.lightgbm, seaborn, splink, secantus.cli, ministack.app' \
    &>/dev/null &
  wait
}

install_python_packages() {
  exec 9<bootstrap.sh
  flock 9 # one set-up of this clone at a time
  venv_is_current && return
  echo "Setting up .venv: a minute or two the first time"
  # A folder that was moved, or whose Python is gone, cannot be mended: its scripts name the old
  # path.
  if ! grep -qsF "venv $PWD/.venv" .venv/pyvenv.cfg || ! .venv/bin/python -c ''; then
    rm -rf .venv
    step "$python" -m venv .venv
  fi
  # Nothing is installed that is not in the lock with its hash, this program included.
  sed -n '/^uv==/,/[^\]$/p' requirements.lock >.venv/uv.lock
  step .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes \
    --requirement .venv/uv.lock
  use_package_sources_of_pip
  step .venv/bin/uv pip sync --quiet --require-hashes --python .venv/bin/python requirements.lock
  # Every program of .venv starts with these settings, also one that `softcart` does not start.
  cp softcart_assets/stack/no_telemetry.pth .venv/lib/python3*/site-packages/
  # Compiles the .pyx files; from its cache uv would take an installation without it.
  step .venv/bin/uv pip install --quiet --no-deps --reinstall-package softcart \
    --python .venv/bin/python --editable .
  compile_what_is_imported
  echo "$wanted" >"$stamp"
  exec 9<&-
}

# Says what set-up needs and what is missing. Fails if set-up cannot work, or was not done.
report() {
  local as_root reason free status=0
  if ((${#missing[@]} == 0)); then
    echo "✓ Debian packages: none is missing"
  else
    status=1
    echo "✗ Debian packages: ${missing[*]}"
    if find_root; then
      echo "  \`make install\` installs them${as_root:+ with ${as_root[0]}}."
    else
      echo "  They cannot be installed: $reason."
    fi
    advise | sed 's/^/  /'
  fi
  venv_is_current && return "$status"
  if [[ -d .venv ]]; then
    echo "✗ .venv: made for another version or folder. \`make install\` makes it anew."
  else
    echo "✗ .venv: not set up yet. \`make install\` does it."
  fi
  [[ -w . ]] || echo "✗ $PWD: not writable for $(id -un), and .venv has its place here"
  free=$(($(df -Pk . | sed -n '2s/^[^ ]* *[0-9]* *[0-9]* *\([0-9]*\).*/\1/p') / 1024 / 1024))
  if ((free < needed_gib)); then
    echo "✗ Disk: $free GiB free in $PWD, and set-up needs $needed_gib"
  else
    echo "✓ Disk: $free GiB free in $PWD"
  fi
  # Debian's Python may have no pip of its own. Then only set-up shows whether there is a network.
  if find_python && "$python" -c 'import pip' 2>/dev/null; then
    if "$python" -m pip --disable-pip-version-check --timeout 10 --retries 0 index versions uv \
      >/dev/null 2>&1; then
      echo "✓ Package source: pip reaches it"
    else
      echo "✗ Package source: pip does not reach it. Check the network, HTTPS_PROXY and" \
        "\`$python -m pip config list\`."
    fi
  fi
  return 1
}

wanted=$PWD:$(
  cat requirements* pyproject.toml bootstrap.sh setup.py softcart_assets/stack/no_telemetry.pth \
    softcart_assets/ingestion/codec/*.{pyx,pxd,h} | sha256sum
)
find_missing_packages
if [[ $mode == doctor ]]; then
  status=0
  report || status=$?
  # Whatever is missing here: someone who set SoftCart up long ago asks about their settings.
  if venv_is_current; then .venv/bin/softcart doctor || status=$?; fi
  exit "$status"
fi
((${#missing[@]} == 0)) || install_missing_packages
venv_is_current || install_python_packages
# It says itself why there is none.
[[ $mode != --tests ]] || .venv/bin/python tests/support/mysql97.py || true
if [[ $mode == uv ]]; then
  use_package_sources_of_pip
  shift
  exec .venv/bin/uv "$@"
fi
