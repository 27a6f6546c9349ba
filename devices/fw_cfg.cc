#include "devices/fw_cfg.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "base/bytes.h"

namespace wick::devices {

namespace {

constexpr uint64_t kSelector = 0;
constexpr uint64_t kData = 1;
constexpr uint64_t kDma = 4;
constexpr uint64_t kDmaBytes = 8;
// A transfer is checked and copied in pieces that do not cross the boundary of a guest's page,
// so that it ends at the first page that is not RAM.
constexpr uint64_t kPageBytes = 4096;

// Returns the key of the item that `key` selects. Bit 14 asks for the write mode, which no longer
// exists; the item is the same.
constexpr uint16_t item_key(uint16_t key) {
  return key & static_cast<uint16_t>(~FW_CFG_WRITE_CHANNEL);
}

std::vector<std::byte> bytes_of(std::string_view text) {
  const auto bytes = as_bytes(text.data(), text.size());
  return {bytes.begin(), bytes.end()};
}

bool is_printable(std::string_view name) {
  return std::ranges::all_of(name, [](char c) { return c > ' ' && c <= '~'; });
}

uint64_t first_piece(GuestAddress address, uint64_t length_bytes) {
  return std::min(length_bytes, kPageBytes - address.value % kPageBytes);
}

}  // namespace

FwCfg::FwCfg(const GuestMemory& memory) : memory_(memory) {
  std::vector<std::byte> features(4);
  store_le<uint32_t>(features, FW_CFG_VERSION | FW_CFG_VERSION_DMA);
  const MutexLock lock(mutex_);
  items_[FW_CFG_SIGNATURE] = {.size_bytes = FW_CFG_SIG_SIZE, .bytes = bytes_of("QEMU")};
  items_[FW_CFG_ID] = {.size_bytes = 4, .bytes = std::move(features)};
  update_directory();
}

Result<void> FwCfg::add(const std::string& name, std::vector<std::byte> content) {
  if (content.size() > UINT32_MAX)
    return fail("fw_cfg: {}: {} bytes are too many", name, content.size());
  const auto size_bytes = static_cast<uint32_t>(content.size());
  return add_file(name, {.size_bytes = size_bytes, .bytes = std::move(content)});
}

Result<void> FwCfg::add(const std::string& name, uint32_t size_bytes, Reader reader) {
  return add_file(name, {.size_bytes = size_bytes, .reader = std::move(reader)});
}

Result<void> FwCfg::add_writable(const std::string& name, std::vector<std::byte> content,
                                 Writing writing) {
  if (content.size() > kMaxWritableBytes)
    return fail("fw_cfg: {}: {} bytes are more than a writable file's {}", name, content.size(),
                kMaxWritableBytes);
  const auto size_bytes = static_cast<uint32_t>(content.size());
  return add_file(name, {.size_bytes = size_bytes,
                         .bytes = content,
                         .initial = content,
                         .writable = true,
                         .writing = std::move(writing)});
}

Result<void> FwCfg::add_vmcoreinfo(std::vector<std::byte> content) {
  if (content.size() != sizeof(fw_cfg_vmcoreinfo)) {
    content.assign(sizeof(fw_cfg_vmcoreinfo), std::byte{0});
    store_le<uint16_t>(std::span(content).first(2), FW_CFG_VMCOREINFO_FORMAT_ELF);
  }
  return add_writable(FW_CFG_VMCOREINFO_FILENAME, std::move(content), {.whole_only = true});
}

Result<void> FwCfg::add_item(uint16_t key, std::vector<std::byte> content) {
  if (content.size() > UINT32_MAX)
    return fail("fw_cfg: item {:#x}: {} bytes are too many", key, content.size());
  const auto size_bytes = static_cast<uint32_t>(content.size());
  return add_fixed(key, {.size_bytes = size_bytes, .bytes = std::move(content)});
}

Result<void> FwCfg::add_item(uint16_t key, uint32_t size_bytes, Reader reader) {
  return add_fixed(key, {.size_bytes = size_bytes, .reader = std::move(reader)});
}

Result<void> FwCfg::add_file(const std::string& name, Item item) {
  const MutexLock lock(mutex_);
  if (name.empty() || name.size() >= FW_CFG_MAX_FILE_PATH || !is_printable(name))
    return fail("fw_cfg: '{}': a name has 1 to {} printable ASCII characters", name,
                FW_CFG_MAX_FILE_PATH - 1);
  if (std::ranges::find(names_, name) != names_.end())
    return fail("fw_cfg: {}: there already is one", name);
  if (names_.size() >= kMaxFiles)
    return fail("fw_cfg: {}: there are already {} files", name, kMaxFiles);
  items_[static_cast<uint16_t>(FW_CFG_FILE_FIRST + names_.size())] = std::move(item);
  names_.push_back(name);
  update_directory();
  return {};
}

Result<void> FwCfg::add_fixed(uint16_t key, Item item) {
  const MutexLock lock(mutex_);
  const bool local = (key & FW_CFG_ARCH_LOCAL) != 0;
  if (item_key(key) != key || (!local && key >= FW_CFG_FILE_FIRST) || items_.contains(key))
    return fail("fw_cfg: the key {:#x} is not free for an item", key);
  items_[key] = std::move(item);
  return {};
}

void FwCfg::update_directory() {
  std::vector<std::byte> directory(4 + names_.size() * sizeof(fw_cfg_file));
  store_be(directory, static_cast<uint32_t>(names_.size()));
  for (size_t i = 0; i < names_.size(); ++i) {
    const auto entry = std::span(directory).subspan(4 + i * sizeof(fw_cfg_file));
    const auto key = static_cast<uint16_t>(FW_CFG_FILE_FIRST + i);
    store_be(entry.subspan(offsetof(fw_cfg_file, size)), items_[key].size_bytes);
    store_be(entry.subspan(offsetof(fw_cfg_file, select)), key);
    std::memcpy(entry.data() + offsetof(fw_cfg_file, name), names_[i].data(), names_[i].size());
  }
  const auto size_bytes = static_cast<uint32_t>(directory.size());
  items_[FW_CFG_FILE_DIR] = {.size_bytes = size_bytes, .bytes = std::move(directory)};
}

std::vector<std::byte> FwCfg::contents(std::string_view name) const {
  const MutexLock lock(mutex_);
  const auto found = std::ranges::find(names_, name);
  if (found == names_.end()) return {};
  return items_.at(static_cast<uint16_t>(FW_CFG_FILE_FIRST + (found - names_.begin()))).bytes;
}

FwCfg::Item* FwCfg::selected() {
  const auto found = items_.find(item_key(key_));
  return found == items_.end() ? nullptr : &found->second;
}

void FwCfg::select(uint16_t key) {
  key_ = key;
  offset_bytes_ = 0;
}

void FwCfg::copy_out(const Item& item, uint32_t offset_bytes, std::span<std::byte> to) {
  if (item.reader)
    item.reader(offset_bytes, to);
  else
    std::memcpy(to.data(), item.bytes.data() + offset_bytes, to.size());
}

// Returns the next byte of the selected item: 0 past its end, and if there is no such item.
std::byte FwCfg::next_byte() {
  std::byte byte{0};
  const Item* const item = selected();
  if (item == nullptr || offset_bytes_ >= item->size_bytes) return byte;
  copy_out(*item, offset_bytes_++, {&byte, 1});
  return byte;
}

void FwCfg::read(uint64_t offset, std::span<std::byte> data) {
  std::array<std::byte, kDmaBytes> signature;
  store_be<uint64_t>(signature, FW_CFG_DMA_SIGNATURE);
  const MutexLock lock(mutex_);
  for (size_t i = 0; i < data.size(); ++i) {
    const uint64_t at = offset + i;
    if (at == kData)
      data[i] = next_byte();
    else if (at >= kDma && at - kDma < kDmaBytes)
      data[i] = signature[at - kDma];
    else
      data[i] = std::byte{0};
  }
}

// Handles writes of the selector and of the DMA address. Ignores writes to the data register, and
// writes of a width that the specification does not have.
void FwCfg::write(uint64_t offset, std::span<const std::byte> data) {
  Written written;
  {
    const MutexLock lock(mutex_);
    if (offset == kSelector && data.size() == FW_CFG_CTL_SIZE) {
      select(load_le<uint16_t>(data));
    } else if (offset == kDma && data.size() == 4) {
      dma_address_ = uint64_t{load_be<uint32_t>(data)} << 32;
    } else if (offset == kDma + 4 && data.size() == 4) {
      written = transfer({std::exchange(dma_address_, 0) | load_be<uint32_t>(data)});
    } else if (offset == kDma && data.size() == 8) {
      dma_address_ = 0;
      written = transfer({load_be<uint64_t>(data)});
    }
  }
  if (written.item != nullptr && written.item->writing.on_written)
    written.item->writing.on_written(written.content);
}

// Executes a DMA request, which is read from guest memory only once. The result replaces the
// request's first field, even if the request cannot be read as a whole.
FwCfg::Written FwCfg::transfer(GuestAddress request_at) {
  const auto request = memory_.read<fw_cfg_dma_access>(request_at);
  Written written;
  bool good = false;
  if (request) {
    const uint32_t control = std::byteswap(request->control);
    const uint32_t length_bytes = std::byteswap(request->length);
    const GuestAddress address{std::byteswap(uint64_t{request->address})};
    if ((control & FW_CFG_DMA_CTL_SELECT) != 0) select(static_cast<uint16_t>(control >> 16));
    good = true;
    if ((control & FW_CFG_DMA_CTL_READ) != 0) {
      good = read_to_guest(address, length_bytes);
    } else if ((control & FW_CFG_DMA_CTL_WRITE) != 0) {
      good = write_from_guest(address, length_bytes);
      if (good && length_bytes > 0) written = {selected(), selected()->bytes};
    } else if ((control & FW_CFG_DMA_CTL_SKIP) != 0) {
      skip(length_bytes);
    }
  }
  if (!good) warning_.warn("fw_cfg: the guest's request at {:#x} fails", request_at.value);
  const uint32_t result = std::byteswap(uint32_t{good ? 0u : FW_CFG_DMA_CTL_ERROR});
  (void)memory_.write(request_at, result);
  return written;
}

// Copies from the selected item to guest memory. Past the item's end the guest gets zeroes.
bool FwCfg::read_to_guest(GuestAddress to, uint64_t length_bytes) {
  const Item* const item = selected();
  while (length_bytes > 0) {
    uint64_t piece_bytes = first_piece(to, length_bytes);
    const uint64_t left_bytes = item == nullptr ? 0 : item->size_bytes - offset_bytes_;
    if (left_bytes > 0) piece_bytes = std::min(piece_bytes, left_bytes);
    const auto piece = memory_.slice(to, piece_bytes);
    if (!piece) return false;
    if (left_bytes > 0) {
      copy_out(*item, offset_bytes_, *piece);
      offset_bytes_ += static_cast<uint32_t>(piece_bytes);
    } else {
      std::ranges::fill(*piece, std::byte{0});
    }
    to = to + piece_bytes;
    length_bytes -= piece_bytes;
  }
  return true;
}

// Writes to the selected item. Succeeds as a whole or changes nothing.
bool FwCfg::write_from_guest(GuestAddress from, uint64_t length_bytes) {
  Item* const item = selected();
  if (item == nullptr || !item->writable || length_bytes > item->size_bytes - offset_bytes_)
    return false;
  if (item->writing.whole_only && length_bytes != item->size_bytes) return false;
  std::vector<std::byte> content = item->bytes;
  uint32_t at = offset_bytes_;
  while (length_bytes > 0) {
    const uint64_t piece_bytes = first_piece(from, length_bytes);
    const auto piece = memory_.slice(from, piece_bytes);
    if (!piece) return false;
    std::memcpy(content.data() + at, piece->data(), piece_bytes);
    at += static_cast<uint32_t>(piece_bytes);
    from = from + piece_bytes;
    length_bytes -= piece_bytes;
  }
  item->bytes = std::move(content);
  offset_bytes_ = at;
  return true;
}

void FwCfg::skip(uint64_t length_bytes) {
  const Item* const item = selected();
  if (item == nullptr) return;
  offset_bytes_ +=
      static_cast<uint32_t>(std::min<uint64_t>(length_bytes, item->size_bytes - offset_bytes_));
}

BusDevice::Name FwCfg::name_of(uint64_t offset, bool /*write*/) const {
  switch (offset) {
    case kSelector:
      return {.reg = "selector", .device = {}};
    case kData:
      return {.reg = "data", .device = {}};
    default:
      return {.reg = offset >= kDma ? "dma" : "", .device = {}};
  }
}

void FwCfg::reset() {
  const MutexLock lock(mutex_);
  select(FW_CFG_SIGNATURE);
  dma_address_ = 0;
  for (auto& [key, item] : items_)
    if (item.writable) item.bytes = item.initial;
}

FwCfg::State FwCfg::state() const {
  const MutexLock lock(mutex_);
  State state{.key = key_, .offset_bytes = offset_bytes_, .dma_address = dma_address_};
  for (const auto& [key, item] : items_)
    if (item.writable) state.written[key] = item.bytes;
  return state;
}

}  // namespace wick::devices
