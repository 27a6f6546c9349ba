// Commands of QMP about PCI, cards, consoles and the keyboard.
#include <fmt/format.h>

#include <chrono>
#include <vector>

#include "control/key_names.h"
#include "control/names.h"
#include "control/qmp_handlers.h"

namespace wick::control::qmp {

namespace {

Json pci_device(const vmm::PciInfo& function) {
  Json regions = Json::array();
  for (const auto& bar : function.bars) {
    Json region = {
        {"bar", bar.index}, {"size", bar.size_bytes}, {"type", bar.io ? "io" : "memory"}};
    // -1 is QEMU's value for a BAR that is not decoded.
    if (bar.address == 0)
      region["address"] = -1;
    else
      region["address"] = bar.address;
    if (!bar.io) {
      region["prefetch"] = false;
      region["mem_type_64"] = false;
    }
    regions.push_back(std::move(region));
  }
  const uint32_t class_code = function.class_code >> 8;
  Json device = {{"bus", 0},
                 {"slot", function.slot},
                 {"function", 0},
                 {"class_info", {{"class", class_code}}},
                 {"id",
                  {{"vendor", function.vendor},
                   {"device", function.device},
                   {"subsystem-vendor", function.subsystem_vendor},
                   {"subsystem", function.subsystem}}},
                 {"irq_pin", function.interrupt_pin},
                 {"qdev_id", function.id},
                 {"regions", std::move(regions)}};
  if (const auto name = pci_class_name(class_code); !name.empty())
    device["class_info"]["desc"] = name;
  if (function.interrupt_pin != 0) device["irq"] = function.interrupt_line;
  return device;
}

Json mac_list(const std::vector<net::MacAddress>& addresses) {
  Json list = Json::array();
  for (const auto& address : addresses) list.push_back(net::to_text(address));
  return list;
}

}  // namespace

Answer query_chardev(Context& context, const Json&) {
  Json list = Json::array();
  for (const auto& console : context.hardware().consoles())
    list.push_back(
        {{"label", console.id}, {"filename", console.host_name}, {"frontend-open", true}});
  return list;
}

Answer query_pci(Context& context, const Json&) {
  const auto functions = context.hardware().pci_functions();
  if (functions.empty()) return Json::array();
  Json devices = Json::array();
  for (const auto& function : functions) devices.push_back(pci_device(function));
  return Json::array({{{"bus", 0}, {"devices", std::move(devices)}}});
}

Answer query_rx_filter(Context& context, const Json& arguments) {
  const auto wanted = arguments.find("name");
  Json list = Json::array();
  bool found = false;
  for (const auto& card : context.hardware().cards()) {
    if (wanted != arguments.end() && *wanted != card.id) continue;
    found = true;
    if (card.device != vmm::NetConfig::Device::kVirtio) {
      if (wanted == arguments.end()) continue;
      return generic(fmt::format("net client({}) doesn't support rx-filter querying", card.id));
    }
    list.push_back({{"name", card.id},
                    {"promiscuous", card.promiscuous},
                    {"multicast", card.all_multicast ? "all" : "normal"},
                    {"unicast", "normal"},
                    {"vlan", card.vlans.empty() ? "all" : "normal"},
                    {"broadcast-allowed", true},
                    {"multicast-overflow", false},
                    {"unicast-overflow", false},
                    {"main-mac", net::to_text(card.mac)},
                    {"vlan-table", card.vlans},
                    {"unicast-table", mac_list(card.unicast)},
                    {"multicast-table", mac_list(card.multicast)}});
    // The next change causes an event again.
    context.quiet_filters.erase(card.id);
  }
  if (wanted != arguments.end() && !found)
    return generic(fmt::format("invalid net client name: {}", wanted->get<std::string>()));
  return list;
}

Answer set_link(Context& context, const Json& arguments) {
  const auto name = arguments.at("name").get<std::string>();
  const auto card = find_card(context.hardware(), device_id(name));
  if (!card) return device_not_found(name);
  return answer(context.hardware().set_link(card->id, arguments.at("up").get<bool>()));
}

Answer send_break(Context& context, const Json& arguments) {
  const auto id = arguments.at("id").get<std::string>();
  for (const auto& console : context.hardware().consoles())
    if (console.id == id) return answer(context.hardware().send_break(id));
  return generic(fmt::format("Chardev '{}' not found", id));
}

Answer send_key(Context& context, const Json& arguments) {
  const Json& values = arguments.at("keys");
  if (values.size() > kMaxKeysAtOnce)
    return generic(fmt::format("at most {} keys can be sent at once", kMaxKeysAtOnce));
  std::vector<uint16_t> keys;
  for (const Json& value : values) {
    const Json& data = value.at("data");
    const auto key = value.at("type") == "number" ? find_key(data.get<int64_t>())
                                                  : find_key(data.get<std::string>());
    if (!key) return generic(fmt::format("there is no key {}", data.dump()));
    keys.push_back(*key);
  }
  const auto hold = arguments.find("hold-time");
  const int64_t hold_ms = hold == arguments.end() ? kDefaultKeyHold.count() : hold->get<int64_t>();
  if (hold_ms < 0 || hold_ms > kMaxKeyHold.count())
    return generic(fmt::format("Parameter 'hold-time' expects 0 to {}", kMaxKeyHold.count()));
  return answer(context.hardware().send_keys(keys, std::chrono::milliseconds(hold_ms)));
}

}  // namespace wick::control::qmp
