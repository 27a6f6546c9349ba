# The second connection of gdb_session.gdb: the first has left no trace, and the guest ends.

echo == nothing is left of the first session\n
set confirm off
set pagination off
delete
x/3xb 0xffffffff80100300
thread apply 2 -q print $pc >= 0xffffffff80100380 && $pc < 0xffffffff80100396

echo == the guest ends\n
set var *(long*)0xffffffff80208810 = 1
continue
