#!/bin/bash
# Proves the README on machines that have nothing: makes fresh Debian trees, puts a clean clone of
# this project's HEAD inside and runs the README's two commands there. By hand, as root; needs
# debootstrap and the network. Everything is deleted at the end.
#
#   tests/fresh-machine.sh [OPTION...]
#     --suite NAME      bookworm or trixie; may be given twice (default: both)
#     --user KIND       root (default); sudo: an ordinary user who may use sudo; none: an ordinary
#                       user without privileges, for whom root types the command that is asked for
#     --command LINE    run this in the clone instead of the two commands; may be given repeatedly
#     --mirror URL      Debian mirror (default: the one this machine's apt uses)
#     --rebuild         make the base tree anew instead of taking the one in .cache/debootstrap
#     --keep            keep the trees and say where they are
#
# Each tree lives in mount and process namespaces of its own: no mount can leak to this machine and
# no process outlives the script.
set -u
export LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive

root=$(cd "$(dirname "$(readlink -f "$0")")/.." && pwd)
project=opt/iolab # in the tree
failures=0

say() { printf '== %s\n' "$*"; }

fail() {
	say "FAILED: $*"
	failures=$((failures + 1))
}

die() {
	printf 'fresh-machine: %s\n' "$*" >&2
	exit 2
}

# --- outside: trees ----------------------------------------------------------------------------

# The address this machine's apt uses for the archive labelled $1 (Debian, Debian-Security).
mirror_of() {
	# shellcheck disable=SC2016 # apt expands these
	apt-get indextargets --format '$(LABEL)|$(REPO_URI)' 'Created-By: Packages' |
		sed -n "s/^$1|//p" | head -n 1
}

# $1: suite, $2: where its base tree is packed.
make_base() {
	local tree
	tree=$(mktemp -d "$work/base.XXXXXX")
	say "$1: debootstrap"
	# procps is in every ordinary installation, and so are its boot-time scripts.
	debootstrap --variant=minbase --include=procps "$1" "$tree" "$mirror" >"$work/log" 2>&1 || {
		tail -n 20 "$work/log"
		die "debootstrap $1 failed"
	}
	mkdir -p "$(dirname "$2")"
	tar -C "$tree" -czf "$2.part" . && mv "$2.part" "$2"
	rm -rf --one-file-system "$tree"
}

# Sources, name resolution and the way to the mirror, as on the host.
configure_network() {
	local tree=$1 suite=$2 security
	security=$(mirror_of Debian-Security)
	{
		echo "deb $mirror $suite main"
		echo "deb $mirror $suite-updates main"
		[[ -z $security ]] || echo "deb $security $suite-security main"
	} >"$tree/etc/apt/sources.list"
	apt-config dump | grep -iE '^Acquire::([a-z:]*(proxy|cainfo)|check-)' \
		>"$tree/etc/apt/apt.conf.d/90host"
	cat /etc/resolv.conf >"$tree/etc/resolv.conf"
	echo "127.0.0.1 localhost $(uname -n)" >"$tree/etc/hosts"
	[[ ! -f $host_ca ]] || cp "$host_ca" "$tree/etc/host-ca.crt"
}

add_user() {
	local tree=$1
	[[ $user != root ]] || return 0
	chroot "$tree" useradd --create-home --shell /bin/bash lab || die "useradd failed"
	chroot "$tree" chown -R lab: "/$project"
	[[ $user == sudo ]] || return 0
	chroot "$tree" sh -c 'apt-get update && apt-get install -y --no-install-recommends sudo' \
		>"$work/sudo.log" 2>&1 || die "sudo could not be installed in the tree"
	echo 'lab ALL=(ALL) NOPASSWD: ALL' >"$tree/etc/sudoers.d/lab"
}

prepare() {
	local suite=$1 tree=$2 base=$root/.cache/debootstrap/$1.tar.gz
	[[ $rebuild == no && -f $base ]] || make_base "$suite" "$base"
	mkdir "$tree"
	tar -C "$tree" -xzf "$base" || die "$base cannot be unpacked; try --rebuild"
	chmod 755 "$tree" # mktemp's 700 went into the archive, and shuts an ordinary user out
	configure_network "$tree" "$suite"
	git clone -q --no-hardlinks "$root" "$tree/$project" || die "git clone failed"
	add_user "$tree"
}

# --- inside: in namespaces of its own ----------------------------------------------------------

mount_all() {
	local tree=$1 node
	mount -t proc -o nosuid,nodev,noexec proc "$tree/proc"
	mount -t sysfs -o ro,nosuid,nodev,noexec sysfs "$tree/sys"
	mount -t tmpfs -o nosuid,mode=755 tmpfs "$tree/dev"
	mkdir "$tree/dev/shm" "$tree/dev/pts"
	for node in null zero full random urandom tty; do
		touch "$tree/dev/$node"
		mount --bind "/dev/$node" "$tree/dev/$node"
	done
	mount -t tmpfs -o nosuid,nodev tmpfs "$tree/dev/shm"
	mount -t devpts -o newinstance,ptmxmode=666 devpts "$tree/dev/pts"
	ln -s pts/ptmx "$tree/dev/ptmx"
	ln -s /proc/self/fd "$tree/dev/fd"
}

# Runs a shell line in the tree. $1: user, rest: line. Of the environment only what leads to the
# network goes in.
in_tree() {
	local who=$1 name pass=()
	for name in http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY PIP_INDEX_URL; do
		[[ -z ${!name-} ]] || pass+=("$name=${!name}")
	done
	[[ ! -f $tree/etc/host-ca.crt ]] ||
		pass+=({PIP_CERT,NODE_EXTRA_CA_CERTS}"=/etc/host-ca.crt")
	chroot --userspec="$who" "$tree" /usr/bin/env -i HOME="$(home_of "$who")" USER="$who" CI=true \
		LANG=C.UTF-8 TERM=dumb PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
		"${pass[@]}" /bin/bash -c "cd /$project && $2" </dev/null
}

home_of() { [[ $1 == root ]] && echo /root || echo "/home/$1"; }

# What a service or a changed host setting would leave behind.
settings() {
	(cd "$tree" && find etc/systemd etc/rc?.d etc/init.d etc/sysctl.conf etc/sysctl.d \
		etc/security etc/modprobe.d etc/modules-load.d usr/sbin/policy-rc.d \
		-printf '%p %l\n' 2>/dev/null | sort)
}

# Without privileges the launcher says what to type; root types exactly that.
obey() {
	local line command
	say "$suite: as an ordinary user without privileges, nothing installed"
	in_tree lab './iolab setup --test' >"$tree/tmp/obey" 2>&1 &&
		fail "set-up passed on a machine that has nothing"
	cat "$tree/tmp/obey"
	! grep -q Traceback "$tree/tmp/obey" || fail "a traceback"
	line=$(sed -n 's/^iolab: .*type: //p' "$tree/tmp/obey" | sed 's/sudo //g')
	if [[ -z $line ]]; then
		fail "no command to type"
		return
	fi
	while read -r command; do
		say "$suite: root types: $command"
		command="export DEBIAN_FRONTEND=noninteractive; ${command/install/install -y}"
		in_tree root "$command" >"$tree/tmp/typed" 2>&1 || {
			tail -n 20 "$tree/tmp/typed"
			fail "the command to type does not work"
		}
	done <<<"$line"
}

versions() {
	say "$suite: versions"
	# shellcheck disable=SC2016 # the tree's shell expands these
	in_tree root 'uname -sr; gcc --version | head -n 1; /usr/bin/python3 --version
		dpkg-query -W -f "\${Package} \${Version}\n" liburing-dev cmake wrk gnuplot-nox clang \
			2>/dev/null | grep " ."
		dpkg-query -W -f "\${Package} \${Version}\n" socat nodejs npm 2>/dev/null | grep " ."
		for peer in nginx haproxy; do
			echo "$peer $(cat .cache/$peer/version 2>/dev/null || echo none)"
		done'
}

# $1: user, $2: line
run_line() {
	local before=$SECONDS
	say "$suite, $user: $2"
	if in_tree "$1" "$2"; then
		say "$suite, $user: $2: ok ($((SECONDS - before)) s)"
	else
		fail "$suite, $user: $2 ($((SECONDS - before)) s)"
	fi
}

inside() {
	local who=lab line before alien
	[[ $user != root ]] || who=root
	mount_all "$tree" || die "mounts failed"
	before=$(settings)
	[[ $user != none ]] || obey
	for line in "${commands[@]}"; do
		run_line "$who" "$line"
	done
	versions
	in_tree root 'ls -l results/*/report/index.html 2>/dev/null'
	# A second set-up with no network at all: an empty network namespace.
	export -f in_tree home_of
	export tree project
	unshare --net bash -c "in_tree $who './iolab setup'" >"$tree/tmp/offline" 2>&1 ||
		fail "$suite: a second set-up needs the network"
	[[ $(<"$tree/tmp/offline") == 'iolab: set-up is complete' ]] || {
		cat "$tree/tmp/offline"
		fail "$suite: a second set-up did something"
	}
	diff <(echo "$before") <(settings) || fail "$suite: set-up changed host settings"
	alien=$(find "$tree/$project" ! -user "$(stat -c %u "$tree/$project")" -print -quit)
	[[ -z $alien ]] || fail "$suite: not the user's own: $alien"
	exit $((failures > 0))
}

# --- main --------------------------------------------------------------------------------------

suites=() commands=() user=root keep=no rebuild=no mirror=
while (($#)); do
	case $1 in
	--suite | --user | --command | --mirror | --inside)
		(($# > 1)) || die "$1 wants a value"
		;;&
	--suite) suites+=("$2") ;;
	--user) user=$2 ;;
	--command) commands+=("$2") ;;
	--mirror) mirror=$2 ;;
	--inside) tree=$2 ;;
	--keep) keep=yes ;;
	--rebuild) rebuild=yes ;;
	*) die "unknown option $1 (see the head of this file)" ;;
	esac
	case $1 in
	--keep | --rebuild) shift ;;
	*) shift 2 ;;
	esac
done
((${#suites[@]})) || suites=(bookworm trixie)
((${#commands[@]})) || commands=('./iolab quick' './iolab test')
case $user in root | sudo | none) ;; *) die "--user is root, sudo or none" ;; esac
if [[ -n ${tree-} ]]; then
	suite=${suites[0]}
	inside
fi

((EUID == 0)) || die "must run as root (debootstrap and chroot)"
type -P debootstrap >/dev/null || die "type: apt-get install --no-install-recommends debootstrap"
: "${mirror:=$(mirror_of Debian)}"
[[ -n $mirror ]] || die "apt knows no Debian mirror; give one with --mirror"
host_ca=${PIP_CERT:-${SSL_CERT_FILE:-}}
[[ -z $(git -C "$root" status --porcelain) ]] || say "note: uncommitted changes are not tested"

work=$(mktemp -d "${TMPDIR:-/var/tmp}/iolab-fresh.XXXXXX")
# The mounts exist only in the namespace of --inside, so deleting cannot reach through them.
[[ $keep == yes ]] || trap 'rm -rf --one-file-system "$work"' EXIT
trap 'exit 130' INT TERM
say "iolab $(git -C "$root" describe --always --dirty), mirror from apt, as $user"
for suite in "${suites[@]}"; do
	prepare "$suite" "$work/$suite"
	again=(--inside "$work/$suite" --suite "$suite" --user "$user")
	for line in "${commands[@]}"; do
		again+=(--command "$line")
	done
	unshare --mount --pid --fork --kill-child --propagation private bash "$0" "${again[@]}" ||
		failures=$((failures + 1))
	[[ $keep == no ]] || say "kept: $work/$suite (enter it with: chroot $work/$suite)"
done
if ((failures)); then
	say "FAILED in $failures of ${#suites[@]} trees"
else
	say "passed in ${#suites[@]} trees"
fi
exit $((failures > 0))
