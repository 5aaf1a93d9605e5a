#!/bin/bash
# A Ceph object gateway (S3) of one node on loopback, in memory: monitor, one OSD, gateway.
#   radosgw.sh FOLDER GATEWAY_PORT MONITOR_PORT MONITOR_PORT_V1
# Says "ready URL KEY SECRET" on standard output, and ends when its standard input does. FOLDER/more.conf, where it is
# there, is added to the configuration. Buckets are also found as BUCKET.s3.test.
# Needs Debian's radosgw, ceph-mon and ceph-osd.
set -euo pipefail
folder=$(realpath "$1") port=$2 mon=$3 mon_v1=$4
cd "$folder"
mkdir mon osd run
uuid() { cat /proc/sys/kernel/random/uuid; }
fsid=$(uuid) osd=$(uuid)
cat > ceph.conf <<CONF
[global]
fsid = $fsid
mon host = [v2:127.0.0.1:$mon,v1:127.0.0.1:$mon_v1]
public addr = 127.0.0.1
cluster addr = 127.0.0.1
auth cluster required = none
auth service required = none
auth client required = none
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pgp num = 8
mon allow pool size one = true
# However full the disk is.
mon data avail crit = 0
mon data avail warn = 0
mon warn on pool no redundancy = false
# A monitor that waits for no other need not wait before it decides.
paxos propose interval = 0.05
paxos min wait = 0.01
osd crush chooseleaf type = 0
osd objectstore = memstore
memstore device bytes = 4294967296
# A machine that is busy is not one that is down.
osd heartbeat grace = 600
osd op thread timeout = 600
osd op thread suicide timeout = 0
osd class load list = *
osd class default list = *
ms mon client mode = crc
ms mon cluster mode = crc
ms mon service mode = crc
ms client mode = crc
ms service mode = crc
ms cluster mode = crc
run dir = $folder/run
log file = $folder/\$name.log
admin socket = $folder/run/\$name.asok
pid file = $folder/run/\$name.pid
mon data = $folder/mon
osd data = $folder/osd
keyring = $folder/keyring
rgw dns name = s3.test
rgw crypt require ssl = false
rgw crypt s3 kms backend = testing
rgw crypt s3 kms encryption keys = testkey-1=YmluCmJvb3N0CmJvb3N0LWJ1aWxkCmNlcGguY29uZgo=
CONF
[ ! -e more.conf ] || cat more.conf >> ceph.conf
touch keyring
pids=()
# The gateway goes first: without its OSD it would wait for ever.
end() { for pid in "${pids[@]}"; do kill -KILL "$pid" 2>/dev/null || true; done; wait 2>/dev/null || true; }
trap end EXIT
trap 'exit 1' TERM INT HUP
# Each ends with this script, also where nothing is left to do it by.
with_us() { exec setpriv --pdeathsig KILL -- "$@"; }
until_so() { for _ in $(seq 600); do "$@" >/dev/null 2>&1 && return; sleep .1; done; echo "gave up on: $*" >&2; exit 1; }
ceph() { timeout --foreground 20 /usr/bin/ceph -c ceph.conf "$@"; }
monmaptool --create --fsid "$fsid" --addv a "[v2:127.0.0.1:$mon,v1:127.0.0.1:$mon_v1]" monmap >/dev/null
ceph-mon -c ceph.conf --mkfs -i a --monmap monmap --keyring keyring >mkfs.out 2>&1
with_us ceph-mon -c ceph.conf -i a -f >mon.out 2>&1 & pids=($!)
until_so ceph osd new "$osd"
ceph-osd -c ceph.conf -i 0 --mkfs --osd-uuid "$osd" >osd-mkfs.out 2>&1
with_us ceph-osd -c ceph.conf -i 0 -f >osd.out 2>&1 & pids=($! "${pids[@]}")
until_so sh -c 'timeout --foreground 20 /usr/bin/ceph -c ceph.conf osd stat | grep -q "1 up"'
with_us radosgw -c ceph.conf -n client.rgw --rgw-frontends "beast endpoint=127.0.0.1:$port" -f >rgw.out 2>&1 & pids=($! "${pids[@]}")
until_so bash -c "exec 3<>/dev/tcp/127.0.0.1/$port"
timeout --foreground 60 radosgw-admin -c ceph.conf user create --uid=t --display-name=t --access-key=TESTKEY --secret=testsecret >user.out 2>&1
echo "ready http://127.0.0.1:$port TESTKEY testsecret"
read -r _ || true
