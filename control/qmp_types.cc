#include "control/qmp_types.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>

#include "base/result.h"

namespace wick::control {

namespace {

struct Builtin {
  std::string_view name;
  std::string_view json_type;  // the type's JSON type in the schema
  std::string_view expected;   // the type's name in errors
};

constexpr Builtin kBuiltins[] = {
    {"str", "string", "string"},    {"int", "int", "integer"}, {"number", "number", "number"},
    {"bool", "boolean", "boolean"}, {"any", "value", "any"},   {"null", "null", "null"},
};

const Builtin* find_builtin(std::string_view name) {
  const auto* found = std::ranges::find(kBuiltins, name, &Builtin::name);
  return found == std::end(kBuiltins) ? nullptr : found;
}

// Removes the next word from `text` and returns it; empty at the end.
std::string_view next_word(std::string_view& text) {
  text.remove_prefix(std::min(text.find_first_not_of(" \n"), text.size()));
  const std::string_view word = text.substr(0, text.find_first_of(" \n"));
  text.remove_prefix(word.size());
  return word;
}

Member parse_member(std::string_view word) {
  const size_t colon = word.find(':');
  std::string_view name = word.substr(0, colon);
  const bool optional = name.ends_with('?');
  if (optional) name.remove_suffix(1);
  return {name, word.substr(colon + 1), optional};
}

bool is_builtin(const Json& value, std::string_view type) {
  if (type == "str") return value.is_string();
  if (type == "bool") return value.is_boolean();
  if (type == "number") return value.is_number();
  if (type == "null") return value.is_null();
  if (type == "any") return true;
  // QAPI's integers have 64 bits with a sign.
  if (value.is_number_unsigned())
    return value.get<uint64_t>() <= static_cast<uint64_t>(std::numeric_limits<int64_t>::max());
  return value.is_number_integer();
}

using Check = std::expected<void, std::string>;

Check wrong_type(const std::string& name, std::string_view expected) {
  return std::unexpected(
      fmt::format("Invalid parameter type for '{}', expected: {}", name, expected));
}

Check check_value(const std::string& name, std::string_view type, const Json& value);

// Checks the members of an object. The definitions bound the depth of the recursion.
Check check_members(const std::string& prefix, const ParsedType& type, const Json& object) {
  std::vector<Member> members = type.members;
  if (type.kind == ParsedType::Kind::kUnion && object.contains(type.tag)) {
    TRY(check_value(prefix + std::string(type.tag),
                    std::ranges::find(members, type.tag, &Member::name)->type,
                    object.at(std::string(type.tag))));
    const auto& value = object.at(std::string(type.tag)).get_ref<const std::string&>();
    for (const auto& [tag, variant] : type.variants)
      if (tag == value)
        if (const auto more = find_type(variant))
          members.insert(members.end(), more->members.begin(), more->members.end());
  }
  for (const Member& member : members) {
    const auto found = object.find(member.name);
    const std::string name = prefix + std::string(member.name);
    if (found != object.end())
      TRY(check_value(name, member.type, *found));
    else if (!member.optional)
      return std::unexpected(fmt::format("Parameter '{}' is missing", name));
  }
  if (type.open) return {};
  for (const auto& [key, value] : object.items())
    if (std::ranges::find(members, std::string_view(key), &Member::name) == members.end())
      return std::unexpected(fmt::format("Parameter '{}{}' is unexpected", prefix, key));
  return {};
}

Check check_value(const std::string& name, std::string_view type, const Json& value) {
  if (type.starts_with('[')) {
    if (!value.is_array()) return wrong_type(name, "array");
    const std::string_view element = type.substr(1, type.size() - 2);
    for (size_t i = 0; i < value.size(); ++i)
      TRY(check_value(fmt::format("{}[{}]", name, i), element, value[i]));
    return {};
  }
  if (const Builtin* builtin = find_builtin(type)) {
    if (!is_builtin(value, type)) return wrong_type(name, builtin->expected);
    return {};
  }
  const auto definition = find_type(type);
  if (!definition) return {};
  if (definition->kind == ParsedType::Kind::kEnum) {
    if (!value.is_string()) return wrong_type(name, "string");
    const auto& word = value.get_ref<const std::string&>();
    if (std::ranges::find(definition->values, word) == definition->values.end())
      return std::unexpected(fmt::format("Parameter '{}' does not accept value '{}'", name, word));
    return {};
  }
  if (!value.is_object()) return wrong_type(name, "object");
  return check_members(name + ".", *definition, value);
}

// Writes the schema: numbers the types in the order in which they are found, and describes each
// type once.
class SchemaWriter {
 public:
  SchemaWriter() { describe("0", ParsedType{}); }

  void add(const SchemaEntry& entry) {
    Json info = {{"name", entry.name},
                 {"meta-type", entry.event ? "event" : "command"},
                 {"arg-type", arguments(entry.arguments)}};
    if (!entry.event) info["ret-type"] = entry.returns.empty() ? "0" : reference(entry.returns);
    if (parse_arguments(entry.arguments).open) info["features"] = {"json-cli-hotplug"};
    described_.push_back(std::move(info));
  }
  Json take() { return std::move(described_); }

 private:
  std::string number() { return std::to_string(next_number_++); }

  std::string arguments(std::string_view text) {
    const ParsedType type = parse_arguments(text);
    if (type.members.empty()) return "0";
    const std::string name = number();
    describe(name, type);
    return name;
  }

  // Returns the name of a type in the schema. Builtin types and arrays keep their names; other
  // types get a number in place of QEMU's name.
  std::string reference(std::string_view type) {
    if (const auto known = names_.find(std::string(type)); known != names_.end())
      return known->second;
    if (type.starts_with('[')) {
      const std::string element = reference(type.substr(1, type.size() - 2));
      const std::string name = "[" + element + "]";
      // The array may have been described meanwhile, because the element's type may contain the
      // same array, as PciDeviceInfo does.
      if (names_.contains(std::string(type))) return name;
      names_[std::string(type)] = name;
      described_.push_back({{"name", name}, {"meta-type", "array"}, {"element-type", element}});
      return name;
    }
    if (const Builtin* builtin = find_builtin(type)) {
      names_[std::string(type)] = std::string(type);
      described_.push_back(
          {{"name", type}, {"meta-type", "builtin"}, {"json-type", builtin->json_type}});
      return std::string(type);
    }
    const std::string name = number();
    // The name is stored before the members are described, because they may refer to this type.
    names_[std::string(type)] = name;
    describe(name, find_type(type).value_or(ParsedType{}));
    return name;
  }

  void describe(const std::string& name, const ParsedType& type) {
    if (type.kind == ParsedType::Kind::kEnum) {
      Json members = Json::array();
      for (const auto value : type.values) members.push_back({{"name", value}});
      described_.push_back({{"name", name},
                            {"meta-type", "enum"},
                            {"members", std::move(members)},
                            {"values", type.values}});
      return;
    }
    Json members = Json::array();
    for (const Member& member : type.members) {
      Json info = {{"name", member.name}, {"type", reference(member.type)}};
      if (member.optional) info["default"] = nullptr;
      members.push_back(std::move(info));
    }
    Json info = {{"name", name}, {"meta-type", "object"}, {"members", std::move(members)}};
    if (type.kind == ParsedType::Kind::kUnion) {
      info["tag"] = type.tag;
      info["variants"] = variants(type);
    }
    described_.push_back(std::move(info));
  }

  // Returns the variants of a union. For a value of the tag without its own definition, the variant
  // has no members.
  Json variants(const ParsedType& type) {
    Json list = Json::array();
    const auto tag = std::ranges::find(type.members, type.tag, &Member::name);
    const auto values = find_type(tag->type);
    for (const auto value : values->values) {
      const auto own = std::ranges::find(type.variants, value,
                                         &std::pair<std::string_view, std::string_view>::first);
      const bool has_own = own != type.variants.end();
      list.push_back({{"case", value}, {"type", has_own ? reference(own->second) : "0"}});
    }
    return list;
  }

  Json described_ = Json::array();
  std::map<std::string, std::string> names_;
  int next_number_ = 1;
};

ParsedType parse_definition(std::string_view text) {
  ParsedType type;
  const std::string_view kind = next_word(text);
  if (kind == "enum") {
    type.kind = ParsedType::Kind::kEnum;
    while (true) {
      const auto word = next_word(text);
      if (word.empty()) return type;
      type.values.push_back(word);
    }
  }
  if (kind == "union") {
    type.kind = ParsedType::Kind::kUnion;
    type.tag = next_word(text);
  }
  bool variants = false;
  while (true) {
    const auto word = next_word(text);
    if (word.empty()) return type;
    if (word == "|")
      variants = true;
    else if (word == "*")
      type.open = true;
    else if (const size_t equals = word.find('='); variants)
      type.variants.emplace_back(word.substr(0, equals), word.substr(equals + 1));
    else
      type.members.push_back(parse_member(word));
  }
}

}  // namespace

std::optional<ParsedType> find_type(std::string_view name) {
  const auto all = type_definitions();
  const auto found = std::ranges::find(all, name, &TypeDefinition::name);
  if (found == all.end()) return std::nullopt;
  return parse_definition(found->text);
}

ParsedType parse_arguments(std::string_view text) {
  ParsedType type;
  while (true) {
    const auto word = next_word(text);
    if (word.empty()) return type;
    if (word == "*")
      type.open = true;
    else
      type.members.push_back(parse_member(word));
  }
}

std::expected<void, std::string> check_arguments(std::string_view text, const Json& arguments) {
  return check_members("", parse_arguments(text), arguments);
}

Json make_schema(std::span<const SchemaEntry> entries) {
  SchemaWriter writer;
  for (const SchemaEntry& entry : entries) writer.add(entry);
  return writer.take();
}

}  // namespace wick::control
