// The types of QMP's arguments and answers, written as text, and what is generated from them: the
// check of a client's arguments and query-qmp-schema (QEMU's docs/devel/qapi-code-gen,
// "Client JSON Protocol introspection").
//
// A type is the name of a builtin (str, int, number, bool, any, null), the name of a definition,
// or [TYPE] for an array. A definition is one of
//
//   enum VALUE...
//   struct MEMBER:TYPE OPTIONAL?:TYPE ...
//   union TAG MEMBER:TYPE ... | VALUE=TYPE ...     (TAG is one of the members, an enumeration)
//
// Thread rule: any thread; the definitions are constant.
#pragma once

#include <expected>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "control/json_stream.h"

namespace wick::control {

struct TypeDefinition {
  std::string_view name;
  std::string_view text;
};

// Returns all definitions (qmp_type_table.cc).
std::span<const TypeDefinition> type_definitions();

struct Member {
  std::string_view name;
  std::string_view type;
  bool optional = false;
};

struct ParsedType {
  enum class Kind { kEnum, kStruct, kUnion };
  Kind kind = Kind::kStruct;
  std::vector<std::string_view> values = {};  // the values of a kEnum
  std::vector<Member> members = {};
  // Only for arguments: the command allows other members, and checks them itself.
  bool open = false;
  std::string_view tag;
  std::vector<std::pair<std::string_view, std::string_view>> variants = {};
};

// Finds a definition by its name; nullopt: there is none.
std::optional<ParsedType> find_type(std::string_view name);
// Parses the declaration of a command's arguments, which has the form of a struct's members. A "*"
// at the end allows other members.
ParsedType parse_arguments(std::string_view text);

// Checks a client's `arguments`, an object, against the declaration `text`. An error is a message
// for the client.
std::expected<void, std::string> check_arguments(std::string_view text, const Json& arguments);

// A command or an event, for the schema.
struct SchemaEntry {
  std::string_view name;
  bool event = false;
  std::string_view arguments;
  std::string_view returns;  // the type of the answer; empty: an empty object
};

// Returns the answer of query-qmp-schema. As in QEMU, the names of types are numbers.
Json make_schema(std::span<const SchemaEntry> entries);

}  // namespace wick::control
