// Copies the registers of a vCPU between KVM and plain values. The vCPU must not be in KVM_RUN.
#pragma once

#include "base/result.h"
#include "vmm/inspector.h"

namespace wick::vmm {

// `fd` is the vCPU's descriptor.
Result<CpuRegisters> read_registers(int fd);
Result<void> write_registers(int fd, const CpuRegisters& registers);
Result<FpuRegisters> read_fpu(int fd);
Result<void> write_fpu(int fd, const FpuRegisters& registers);
Result<uint64_t> read_msr(int fd, uint32_t index);

}  // namespace wick::vmm
