// The variables of UEFI, which OVMF keeps in its flash memory, and the file that keeps them between
// the runs of a machine.
//
// Thread rule: open() and the destructor in one thread; store() by any thread, one at a time.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include "base/fd.h"
#include "base/guest_memory.h"
#include "base/log.h"
#include "base/result.h"

namespace wick::boot {

class UefiVariables {
 public:
  // Reads the file at `path`; if it is missing or empty, it is first filled from the file at
  // `template_path`. Without a `path` the variables are those of the template, and are lost with
  // this object. The file is locked against other machines; its size must be that of the template.
  // `end` is the guest address where the memory of the variables ends; that memory begins at a
  // multiple of 4 KiB.
  static Result<std::unique_ptr<UefiVariables>> open(const std::string& path,
                                                     const std::string& template_path,
                                                     GuestAddress end);

  // Returns the memory of the variables, whose address stays the same.
  const GuestMemory::Region& region() const { return memory_.regions().front(); }
  std::span<std::byte> bytes() const { return {region().host, region().size_bytes}; }

  // Writes this part of the memory to the file, if there is one. Logs an error.
  void store(size_t offset, size_t size);

 private:
  UefiVariables(GuestMemory memory, std::string path, Fd file)
      : memory_(std::move(memory)), path_(std::move(path)), file_(std::move(file)) {}

  const GuestMemory memory_;
  const std::string path_;
  const Fd file_;
  RateLimit warnings_;
};

}  // namespace wick::boot
