#include "virtio/net.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace wick::virtio {

namespace {

constexpr uint16_t kQueueSize = 256;
constexpr uint16_t kControlQueueSize = 64;
constexpr size_t kTurnBytes = 512 << 10;
constexpr size_t kMinCost = 1024;  // each frame costs at least this much of kTurnBytes
constexpr size_t kMaxCommandBytes = 16 << 10;
constexpr size_t kMaxPacketBuffers = 1024;  // IOV_MAX of writev(2)

uint64_t packed(const net::MacAddress& mac) {
  uint64_t value = 0;
  std::memcpy(&value, mac.data(), mac.size());
  return value;
}

uint64_t features_of(const net::Backend& backend, bool has_mtu) {
  uint64_t features = feature_bit(VIRTIO_NET_F_MAC) | feature_bit(VIRTIO_NET_F_MRG_RXBUF) |
                      feature_bit(VIRTIO_NET_F_STATUS) | feature_bit(VIRTIO_NET_F_CTRL_VQ) |
                      feature_bit(VIRTIO_NET_F_CTRL_RX) | feature_bit(VIRTIO_NET_F_CTRL_VLAN) |
                      feature_bit(VIRTIO_NET_F_CTRL_RX_EXTRA) |
                      feature_bit(VIRTIO_NET_F_GUEST_ANNOUNCE) |
                      feature_bit(VIRTIO_NET_F_CTRL_MAC_ADDR);
  const net::Offloads received = backend.supported_offloads();
  net::Offloads sent = net::kAllOffloads;
  sent.udp = received.udp;  // a host kernel that delivers UDP segmentation also accepts it
  features |= features_of_guest(received) | features_of_host(sent);
  if (received.checksum) features |= feature_bit(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS);
  if (has_mtu) features |= feature_bit(VIRTIO_NET_F_MTU);
  if (backend.queue_pairs() > 1) features |= feature_bit(VIRTIO_NET_F_MQ);
  return features;
}

std::vector<uint16_t> queue_sizes_of(const net::Backend& backend) {
  std::vector<uint16_t> sizes(size_t{2} * backend.queue_pairs(), kQueueSize);
  sizes.push_back(kControlQueueSize);
  return sizes;
}

// Returns the cost of a packet. Each of its segments costs at least kMinCost, because the back end
// may have to segment the packet.
size_t cost(const net::PacketHeader& header, size_t bytes) {
  const size_t segments = header.segmentation == net::PacketHeader::kNone
                              ? 1
                              : bytes / std::max<size_t>(1, header.segment_bytes) + 1;
  return std::max(bytes, segments * kMinCost);
}

}  // namespace

Result<std::unique_ptr<Net>> Net::create(net::Backend& backend, EventLoop& loop,
                                         const net::MacAddress& mac, std::optional<uint16_t> mtu,
                                         std::string name,
                                         std::vector<std::unique_ptr<VhostNet>> vhosts) {
  std::unique_ptr<Net> card(new Net(backend, loop, mac, mtu, std::move(name)));
  card->vhosts_ = std::move(vhosts);
  TRY(loop.call([&] {
    net::Backend::Events events{.readable = {},
                                .link_changed = [self = card.get()] { self->link_changed(); }};
    // With vhost there is no `readable` event, so that the loop does not wake up for each packet.
    if (card->vhosts_.empty())
      events.readable = [self = card.get()](uint16_t pair) {
        if (pair < self->receivers_.size() && self->receivers_[pair])
          self->receivers_[pair]->receive();
      };
    auto attached = backend.attach(loop, std::move(events));
    card->link_up_ = backend.link_up();
    return attached;
  }));
  return card;
}

Net::Net(net::Backend& backend, EventLoop& loop, const net::MacAddress& mac,
         std::optional<uint16_t> mtu, std::string name)
    : backend_(backend),
      loop_(loop),
      mac_(mac),
      mtu_(mtu),
      name_(std::move(name)),
      features_(features_of(backend, mtu.has_value())),
      queue_sizes_(queue_sizes_of(backend)),
      current_mac_(packed(mac)) {
  settings_.mac = mac;
}

Net::~Net() {
  loop_.call([this] {
    stop();
    backend_.detach();
  });
}

void Net::read_config(uint64_t offset, std::span<std::byte> data) {
  virtio_net_config config{};  // the offered features define no fields after the MTU
  const uint64_t mac = current_mac_;
  std::memcpy(config.mac, &mac, sizeof(config.mac));
  config.status = static_cast<uint16_t>((link_up_ ? VIRTIO_NET_S_LINK_UP : 0) |
                                        (announce_ ? VIRTIO_NET_S_ANNOUNCE : 0));
  config.max_virtqueue_pairs = backend_.queue_pairs();
  config.mtu = mtu_.value_or(0);
  copy_config(config, offset, data);
}

void Net::activate(uint64_t features, std::vector<ActiveQueue> queues, DriverNotifier& notifier) {
  loop_.call([&] { start(features, std::move(queues), notifier); });
}

void Net::reset() {
  loop_.call([this] { stop(); });
}

void Net::start(uint64_t features, std::vector<ActiveQueue> queues, DriverNotifier& notifier) {
  notifier_ = &notifier;
  settings_ = {.features = features,
               .max_pairs = backend_.queue_pairs(),
               .mtu = has_feature(features, VIRTIO_NET_F_MTU) ? mtu_.value_or(0) : uint16_t{0},
               .host_offloads = host_offloads_of(features),
               .mac = mac_,
               .unicast = {},
               .multicast = {},
               .vlans = {},
               // 5.1.6.5.6: initially all negotiated offloads are enabled.
               .guest_offloads = guest_offloads_of(features)};
  apply_settings();

  receivers_.resize(backend_.queue_pairs());
  transmitters_.resize(backend_.queue_pairs());
  for (ActiveQueue& queue : queues) add(std::move(queue));
  serve_all();
  // The driver may have read the old state of the link before it set DRIVER_OK.
  if (std::exchange(link_change_pending_, false)) notifier.config_changed();
}

// 5.1.2: without VIRTIO_NET_F_MQ the control queue is queue 2.
uint16_t Net::control_index() const {
  return settings_.has(VIRTIO_NET_F_MQ) ? static_cast<uint16_t>(2 * backend_.queue_pairs())
                                        : uint16_t{2};
}

void Net::add(ActiveQueue queue) {
  const auto pair = static_cast<uint16_t>(queue.index / 2);
  if (queue.index == control_index()) {
    if (settings_.has(VIRTIO_NET_F_CTRL_VQ))
      control_.emplace(loop_, std::move(queue), *notifier_, name_, warnings_,
                       [this] { serve_control(); });
  } else if (queue.index > control_index()) {
    return;
  } else if (!vhosts_.empty()) {
    add_to_vhost(std::move(queue));
  } else if (queue.index % 2 == 0) {
    receivers_[pair].emplace(loop_, std::move(queue), *notifier_, backend_, pair, settings_, name_,
                             warnings_);
  } else {
    transmitters_[pair].emplace(loop_, std::move(queue), *notifier_, name_, warnings_,
                                [this, pair] { serve_transmit(pair); });
  }
}

void Net::add_to_vhost(ActiveQueue queue) {
  const auto pair = static_cast<uint16_t>(queue.index / 2);
  const auto started =
      vhosts_[pair]->start_queue(loop_, settings_.features, std::move(queue),
                                 backend_.vhost_descriptor(pair), *notifier_, name_);
  if (started && vhost_held_) vhosts_[pair]->hold(true);
  if (started) return;
  spdlog::error("{}", started.error().message());
  notifier_->needs_reset();
}

void Net::start_queue(ActiveQueue queue, DriverNotifier&) {
  loop_.call([&] {
    add(std::move(queue));
    serve_all();
  });
}

void Net::hold_vhost(bool held) {
  vhost_held_ = held;
  for (const auto& vhost : vhosts_) vhost->hold(held);
}

void Net::stop_queue(uint16_t index) {
  loop_.call([&] {
    const auto pair = static_cast<uint16_t>(index / 2);
    if (index == control_index())
      control_.reset();
    else if (index > control_index())
      return;
    else if (!vhosts_.empty())
      vhosts_[pair]->stop_queue(index % 2);
    else if (index % 2 == 0)
      receivers_[pair].reset();
    else
      transmitters_[pair].reset();
  });
}

void Net::serve_all() {
  serve_control();
  for (uint16_t pair = 0; pair < receivers_.size(); ++pair) {
    serve_transmit(pair);
    if (receivers_[pair]) receivers_[pair]->receive();
  }
}

void Net::stop() {
  for (const auto& vhost : vhosts_) vhost->stop();
  receivers_.clear();
  transmitters_.clear();
  control_.reset();
  notifier_ = nullptr;
  announce_ = false;
  settings_ = {};
  settings_.mac = mac_;
  apply_settings();
}

void Net::serve_transmit(uint16_t pair) {
  if (pair >= transmitters_.size() || !transmitters_[pair]) return;
  transmitters_[pair]->serve(
      kTurnBytes, [&](auto& request, size_t& budget) { return transmit(pair, request, budget); });
}

// 5.1.6.2, "Packet Transmission".
bool Net::transmit(uint16_t pair, LoopQueue::Request& request, size_t& budget) {
  net::PacketHeader header;
  size_t bytes = request.readable.read(std::as_writable_bytes(std::span(&header, 1)));
  const bool allowed = bytes == sizeof(header) && settings_.host_offloads.cover(header);
  header.flags &= net::PacketHeader::kNeedsChecksum;
  header.buffers = 0;
  packet_.assign(1, {&header, sizeof(header)});
  while (bytes <= net::kMaxPacketBytes) {
    const auto part = request.readable.front(net::kMaxPacketBytes);
    if (part.empty()) break;
    packet_.push_back({part.data(), part.size()});
    request.readable.advance(part.size());
    bytes += part.size();
  }
  if (allowed && bytes >= net::kMinPacketBytes && bytes <= net::kMaxPacketBytes &&
      packet_.size() <= kMaxPacketBuffers)
    backend_.send(pair, packet_);
  else
    warnings_.warn("{}: dropped a malformed packet from the driver", name_);
  spend(budget, cost(header, bytes));
  return true;
}

void Net::serve_control() {
  if (!control_) return;
  control_->serve(kTurnBytes,
                  [&](auto& request, size_t& budget) { return control(request, budget); });
}

// 5.1.6.5, "Control Virtqueue".
bool Net::control(LoopQueue::Request& request, size_t& budget) {
  std::vector<std::byte> command(kMaxCommandBytes);
  command.resize(request.readable.read(command));
  spend(budget, kMaxCommandBytes);
  const bool whole = request.readable.front(1).empty();
  const uint16_t pairs = settings_.pairs;
  const virtio_net_ctrl_ack status = whole ? settings_.execute(command) : VIRTIO_NET_ERR;
  request.written_bytes =
      static_cast<uint32_t>(request.writable.write(as_bytes(&status, sizeof(status))));
  if (status != VIRTIO_NET_OK)
    warnings_.warn("{}: the driver sent a malformed or unsupported command", name_);
  apply_settings();
  if (settings_.pairs != pairs)
    for (auto& receiver : receivers_)
      if (receiver) receiver->receive();
  return true;
}

// Applies the settings to the back end and to the configuration space.
void Net::apply_settings() {
  backend_.set_offloads(settings_.guest_offloads);
  backend_.set_active_pairs(settings_.pairs);
  current_mac_ = packed(settings_.mac);
  if (std::exchange(settings_.announced, false)) announce_ = false;
}

void Net::link_changed() {
  const bool up = backend_.link_up();
  if (link_up_.exchange(up) == up) return;
  if (notifier_ == nullptr) {
    link_change_pending_ = true;
    return;
  }
  // While the link was down, switches may have forgotten the guest's address, so the guest must
  // announce it.
  announce_ = up && settings_.has(VIRTIO_NET_F_GUEST_ANNOUNCE);
  notifier_->config_changed();
}

}  // namespace wick::virtio
