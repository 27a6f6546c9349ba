#include "image/nbd_handshake.h"

#include <algorithm>
#include <optional>

#include "base/bytes.h"
#include "image/nbd_protocol.h"

namespace wick::image {

namespace {

constexpr size_t kOptionHeaderBytes = 16;

// Reads the data of an option from its start. After a read past the end, ok() is false.
class Reader {
 public:
  explicit Reader(std::span<const std::byte> data) : data_(data) {}

  template <typename T>
  T number() {
    if (data_.size() < sizeof(T)) ok_ = false;
    if (!ok_) return 0;
    const T value = load_be<T>(data_);
    data_ = data_.subspan(sizeof(T));
    return value;
  }
  // Reads a string, which stands behind its length.
  std::string_view string() {
    const auto length = number<uint32_t>();
    if (length > std::min(data_.size(), kNbdMaxStringBytes)) ok_ = false;
    if (!ok_) return {};
    const std::string_view text(reinterpret_cast<const char*>(data_.data()), length);
    data_ = data_.subspan(length);
    return text;
  }
  bool ok() const { return ok_; }
  bool at_end() const { return ok_ && data_.empty(); }

 private:
  std::span<const std::byte> data_;
  bool ok_ = true;
};

// Returns whether a client's query matches base:allocation. A query with an empty leaf name
// ("base:") selects no context, but lists all contexts of its namespace ("The base: metadata
// namespace").
bool matches(std::string_view query, bool lists) {
  return query == kNbdAllocationContext || (lists && query == "base:");
}

}  // namespace

std::string NbdHandshake::greeting() {
  std::string text;
  append_be(text, kNbdInitMagic);
  append_be(text, kNbdOptionMagic);
  append_be<uint16_t>(text, NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES);
  return text;
}

std::string NbdHandshake::receive(std::span<const std::byte> part) {
  switch (part_) {
    case Part::kClientFlags:
      return take_flags(part);
    case Part::kOptionHeader:
      return take_header(part);
    case Part::kOptionData:
      want_option();
      return take_option(part);
    case Part::kSkippedData:
      skipped_bytes_ -= static_cast<uint32_t>(part.size());
      if (skipped_bytes_ > 0) {
        want(Part::kSkippedData, std::min(skipped_bytes_, kNbdMaxOptionBytes));
        return {};
      }
      // This option has no error reply: the client would take the reply for the export's data.
      if (option_ == NBD_OPT_EXPORT_NAME) {
        state_ = State::kEnded;
        return {};
      }
      want_option();
      // The metadata contexts are replaced also by a request that fails.
      if (option_ == NBD_OPT_SET_META_CONTEXT) allocation_ = false;
      return reply(NBD_REP_ERR_TOO_BIG);
  }
  return {};
}

void NbdHandshake::want_option() { want(Part::kOptionHeader, kOptionHeaderBytes); }

std::string NbdHandshake::take_flags(std::span<const std::byte> part) {
  const auto flags = load_be<uint32_t>(part);
  // "Client flags": the server must disconnect a client that sets an unknown flag. Without fixed
  // newstyle a client could use no option but NBD_OPT_EXPORT_NAME, which works here, too.
  if ((flags & ~uint32_t{NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES}) != 0) {
    state_ = State::kEnded;
    return {};
  }
  no_zeroes_ = (flags & NBD_FLAG_NO_ZEROES) != 0;
  want_option();
  return {};
}

std::string NbdHandshake::take_header(std::span<const std::byte> part) {
  const auto magic = load_be<uint64_t>(part);
  option_ = load_be<uint32_t>(part.subspan(8));
  const auto length = load_be<uint32_t>(part.subspan(12));
  if (magic != kNbdOptionMagic || length > kNbdMaxSkippedBytes) {
    state_ = State::kEnded;
    return {};
  }
  if (length > kNbdMaxOptionBytes) {
    skipped_bytes_ = length;
    want(Part::kSkippedData, kNbdMaxOptionBytes);
    return {};
  }
  if (length == 0) return take_option({});
  want(Part::kOptionData, length);
  return {};
}

std::string NbdHandshake::take_option(std::span<const std::byte> data) {
  switch (option_) {
    case NBD_OPT_EXPORT_NAME:
      return export_name(data);
    case NBD_OPT_ABORT:
      state_ = State::kEnded;
      return reply(NBD_REP_ACK);
    case NBD_OPT_LIST: {
      if (!data.empty()) return reply(NBD_REP_ERR_INVALID);
      std::string server;
      append_be(server, static_cast<uint32_t>(info_.name.size()));
      server += info_.name + info_.description;
      return reply(NBD_REP_SERVER, server) + reply(NBD_REP_ACK);
    }
    case NBD_OPT_INFO:
    case NBD_OPT_GO:
      return info_or_go(data);
    case NBD_OPT_STRUCTURED_REPLY:
      if (!data.empty()) return reply(NBD_REP_ERR_INVALID);
      structured_ = true;
      return reply(NBD_REP_ACK);
    case NBD_OPT_LIST_META_CONTEXT:
    case NBD_OPT_SET_META_CONTEXT:
      return meta_contexts(data);
    default:  // NBD_OPT_STARTTLS among them ("NOTLS mode")
      return reply(NBD_REP_ERR_UNSUP);
  }
}

std::string NbdHandshake::export_name(std::span<const std::byte> data) {
  // This option has no error reply.
  if (!is_our_name({reinterpret_cast<const char*>(data.data()), data.size()})) {
    state_ = State::kEnded;
    return {};
  }
  state_ = State::kTransmission;
  std::string text;
  append_be(text, info_.size_bytes);
  append_be(text, flags());
  if (!no_zeroes_) text.append(124, '\0');
  return text;
}

std::string NbdHandshake::info_or_go(std::span<const std::byte> data) {
  Reader reader(data);
  const std::string_view name = reader.string();
  bool wants_name = false, wants_description = false;
  const auto count = reader.number<uint16_t>();
  for (uint32_t i = 0; i < count && reader.ok(); ++i) {
    const auto wanted = reader.number<uint16_t>();
    wants_name |= wanted == NBD_INFO_NAME;
    wants_description |= wanted == NBD_INFO_DESCRIPTION;
  }
  if (!reader.at_end()) return reply(NBD_REP_ERR_INVALID);
  if (!is_our_name(name)) return reply(NBD_REP_ERR_UNKNOWN);

  std::string info;
  append_be(info, uint16_t{NBD_INFO_EXPORT});
  append_be(info, info_.size_bytes);
  append_be(info, flags());
  std::string text = reply(NBD_REP_INFO, info);
  if (wants_name) {
    info.clear();
    append_be(info, uint16_t{NBD_INFO_NAME});
    text += reply(NBD_REP_INFO, info + info_.name);
  }
  if (wants_description && !info_.description.empty()) {
    info.clear();
    append_be(info, uint16_t{NBD_INFO_DESCRIPTION});
    text += reply(NBD_REP_INFO, info + info_.description);
  }
  // Sent even if the client did not ask for it: a client that knows the maximum splits its
  // requests.
  info.clear();
  append_be(info, uint16_t{NBD_INFO_BLOCK_SIZE});
  append_be(info, uint32_t{1});
  append_be(info, kNbdPreferredBytes);
  append_be(info, kNbdMaxDataBytes);
  text += reply(NBD_REP_INFO, info);
  if (option_ == NBD_OPT_GO) state_ = State::kTransmission;
  return text + reply(NBD_REP_ACK);
}

std::string NbdHandshake::meta_contexts(std::span<const std::byte> data) {
  const bool lists = option_ == NBD_OPT_LIST_META_CONTEXT;
  // Each NBD_OPT_SET_META_CONTEXT replaces the selection, also if it fails.
  if (!lists) allocation_ = false;
  if (!structured_) return reply(NBD_REP_ERR_INVALID);
  Reader reader(data);
  const std::string_view name = reader.string();
  const auto queries = reader.number<uint32_t>();
  bool matched = lists && queries == 0;  // without a query, all contexts are listed
  for (uint32_t i = 0; i < queries && reader.ok(); ++i) matched |= matches(reader.string(), lists);
  if (!reader.at_end()) return reply(NBD_REP_ERR_INVALID);
  if (!is_our_name(name)) return reply(NBD_REP_ERR_UNKNOWN);
  if (!matched) return reply(NBD_REP_ACK);
  if (!lists) allocation_ = true;
  std::string context;
  append_be(context, lists ? 0 : kNbdAllocationId);
  return reply(NBD_REP_META_CONTEXT, context + kNbdAllocationContext) + reply(NBD_REP_ACK);
}

// "Transmission flags": NBD_FLAG_SEND_DF must not be set without structured replies.
uint16_t NbdHandshake::flags() const {
  return structured_ ? info_.flags | NBD_FLAG_SEND_DF : info_.flags;
}

std::string NbdHandshake::reply(uint32_t type, std::string_view data) const {
  std::string text;
  append_be(text, kNbdOptionReplyMagic);
  append_be(text, option_);
  append_be(text, type);
  append_be(text, static_cast<uint32_t>(data.size()));
  return text.append(data);
}

}  // namespace wick::image
