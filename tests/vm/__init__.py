"""What only a machine with a kernel of its own can show: ZFS, AppArmor, cgroup v2, and writes that a power cut loses.

`make test-vm` runs these tests, and nothing else does. Debian 12 is built with mmdebstrap, its ZFS modules by dkms in
that chroot (some minutes, once: it is cached below CONTAINARIUM_TEST_CACHE), and booted in QEMU, which emulates it and
needs no KVM. A machine takes 3 GiB of memory and two processors; one runs at a time, at low priority.
"""
