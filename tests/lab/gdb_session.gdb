# A session of gdb with the guest of tests/guests/debugged_guest.h, for wick's gdb server and for
# QEMU's: what it prints must be the same on both. Start the guest with two vCPUs and 64 MiB,
# stopped; then
#   gdb -nx -batch -ex "set width 0" -ex CONNECT -x gdb_session.gdb -ex CONNECT \
#       -x gdb_session_end.gdb
# CONNECT is: python gdb.execute("target remote WHERE", to_string=True)
# Nothing else depends on how fast a vCPU is. One difference is QEMU 7.2's: it may close the
# connection before gdb has acknowledged the end of the guest, and gdb then says so instead.

set confirm off
set pagination off
set $main = 0xffffffff80100200
set $tick = 0xffffffff80100280
set $work = 0xffffffff80100300
set $ap_main = 0xffffffff80100380
set $ap_end = 0xffffffff80100396
set $data = 0xffffffff80208800

echo == hbreak, before the guest has page tables\n
hbreak *0xffffffff80100300
continue
print/x $pc
print/x $cs
print/x $efer
print/x $cr3
print/x $r8
print/x $rsp
delete

echo == break, and again\n
break *0xffffffff80100300
continue
print *(long*)$data
x/3xb $work
continue
print *(long*)$data
stepi
print/x $pc
print *(long*)$data
continue
print *(long*)$data

echo == breakpoints that stay in memory are stepped over\n
set breakpoint always-inserted on
continue
x/3xb $work
stepi
print/x $pc
continue
print *(long*)$data
set breakpoint always-inserted off
delete

echo == a watchpoint\n
watch *(long*)0xffffffff80208800
continue
print/x $pc
continue
delete
rwatch *(long*)0xffffffff80208810
continue
print/x $pc
delete

echo == threads\n
thread apply 2 -q print $pc >= $ap_main && $pc < $ap_end
thread apply 2 -q print/x $cs
thread apply 2 -q print/x $cr3
print *(long*)($data + 8) > 0
set scheduler-locking on
thread apply 2 -q set $pc = $ap_main
thread apply 2 -q stepi
thread apply 2 -q print/x $pc
thread apply 2 -q print/x $rsp
hbreak *0xffffffff80100300
continue
print/x $pc
set scheduler-locking off
delete

echo == registers are written\n
set $rbp = 0x1122334455667788
print/x $rbp
set $r15 = 5
print/x $r15
set $eflags = 0x46
print $eflags
set $xmm5.v2_int64[1] = 0x77
print/x $xmm5.v2_int64
set $fs_base = 0x1000
print/x $fs_base
set $st0 = 1.5
print $st0
tbreak *0xffffffff80100303
continue
print/x $rbp
print/x $r15
print/x $xmm5.v2_int64
print/x $fs_base

echo == memory is written\n
set var *(long*)0xffffffff80208820 = 0x1234
print/x *(long*)0xffffffff80208820
print/x *(long*)0x208820
maint packet mffffffff90000000,8
maint packet m800000,8

echo == physical memory\n
maint packet Qqemu.PhyMemMode:1
maint packet qqemu.PhyMemMode
x/gx 0x208820
x/gx 0x800000
maint packet Qqemu.PhyMemMode:0
maint packet m800000,8

echo == detach with a breakpoint set\n
break *0xffffffff80100300
set breakpoint always-inserted on
detach
