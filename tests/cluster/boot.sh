#!/bin/sh
# The boot of one host, as the first process of its namespaces; its sshd takes this process over.
#
#   boot.sh NAME FILES HOME USER TOPS VISIBLE…
#
# FILES: a directory with what this host alone has (boot_id, machine-id, passwd, hosts, sshd_config, var_tmp).
# HOME: the shared home, which becomes /home/USER. TOPS: directories, separated by colons, that become empty ones
# of this host's own, but for what is VISIBLE below them.
set -eu
name=$1 files=$2 home=$3 user=$4 tops=$5
shift 5

hostname "$name"
mount --make-rprivate /
mkdir -p /mnt
mount -t tmpfs -o mode=755 tmpfs /mnt
mkdir /mnt/files /mnt/home
mount --bind "$files" /mnt/files
mount --bind "$home" /mnt/home
number=0
for place in "$@"; do
    number=$((number + 1))
    mkdir "/mnt/$number"
    mount --bind "$place" "/mnt/$number"
done

old_ifs=$IFS
IFS=:
for top in $tops; do
    mount -t tmpfs -o mode=1777 tmpfs "$top"
done
IFS=$old_ifs
number=0
for place in "$@"; do
    number=$((number + 1))
    mkdir -p "$place"
    mount --bind "/mnt/$number" "$place"
done

mkdir "/home/$user"
mount --bind /mnt/home "/home/$user"
mount --bind /mnt/files/var_tmp /var/tmp
mount -t tmpfs -o mode=755 tmpfs /run
mkdir /run/sshd /run/screen
chgrp utmp /run/screen
chmod 1777 /run/screen

if [ -d /var/spool/cron/crontabs ]; then
    group=$(stat -c %g /var/spool/cron/crontabs)
    mount -t tmpfs -o "mode=1730,gid=$group" tmpfs /var/spool/cron/crontabs
fi

mount --bind /mnt/files/boot_id /proc/sys/kernel/random/boot_id
for file in machine-id passwd shadow hosts; do
    [ ! -e "/etc/$file" ] || mount --bind "/mnt/files/$file" "/etc/$file"
done
ip link set lo up
cp /mnt/files/sshd_config /mnt/files/host_key /run/sshd/
chmod 600 /run/sshd/host_key
exec /usr/sbin/sshd -D -e -f /run/sshd/sshd_config
