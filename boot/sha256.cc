#include "boot/sha256.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

#include "base/bytes.h"

namespace wick::boot {

namespace {

constexpr size_t kPartBytes = 256 << 10;

}  // namespace

Sha256::Sha256() { ::SHA256Init(&context_); }

void Sha256::update(std::span<const std::byte> bytes) {
  ::SHA256Update(&context_, reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
}

std::string Sha256::finish() {
  std::array<char, SHA256_DIGEST_STRING_LENGTH> text{};  // with a NUL
  (void)::SHA256End(&context_, text.data());
  return text.data();
}

Result<std::string> sha256_of(const InputFile& file) {
  Sha256 hash;
  std::vector<std::byte> part(std::min<uint64_t>(kPartBytes, file.size_bytes()));
  for (uint64_t offset = 0; offset < file.size_bytes(); offset += part.size()) {
    part.resize(std::min<uint64_t>(part.size(), file.size_bytes() - offset));
    TRY(file.read(offset, part));
    hash.update(part);
  }
  return hash.finish();
}

std::string sha256_of(std::string_view text) {
  Sha256 hash;
  hash.update(as_bytes(text.data(), text.size()));
  return hash.finish();
}

bool is_sha256(std::string_view text) {
  return text.size() == SHA256_DIGEST_STRING_LENGTH - 1 && std::ranges::all_of(text, [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
         });
}

}  // namespace wick::boot
