# The first process of a real node's mount and pid namespaces: when it ends, the kernel ends
# every process and every mount in them. Its argument is the node's folder.
set -eu
node=$1
mount -t proc proc /proc
for folder in run var/lib var/log; do
	mount --bind "$node/$folder" "/$folder"
done
mount --bind "$node/hosts" /etc/hosts
for setting in kernel.panic kernel.panic_on_oops vm.overcommit_memory vm.panic_on_oom; do
	mount --bind "$node/sysctl/$setting" "/proc/sys/$(echo "$setting" | tr . /)"
done
touch "$node/ready"
# Waiting for a child also collects the processes that others left behind.
while :; do
	sleep 5
done
