#include "control/hmp_expression.h"

#include <fmt/format.h>

#include <array>
#include <charconv>

#include "base/result.h"

namespace wick::control {

namespace {

using Value = std::expected<int64_t, std::string>;

int64_t wrap(uint64_t value) { return static_cast<int64_t>(value); }
uint64_t bits(int64_t value) { return static_cast<uint64_t>(value); }

class Parser {
 public:
  Parser(std::string_view text, const RegisterReader& read_register)
      : text_(text), read_register_(read_register) {}

  Value logic() {
    int64_t value = TRY(sum());
    while (true) {
      const char op = peek();
      if (op != '&' && op != '|' && op != '^') return value;
      ++at_;
      const int64_t right = TRY(sum());
      value = op == '&' ? value & right : op == '|' ? value | right : value ^ right;
    }
  }
  std::string_view rest() const { return text_.substr(at_); }

 private:
  // The limit for the recursion of parentheses and unary operators.
  static constexpr int kMaxDepth = 64;

  // Returns the next character, or 0 at the end. Inside parentheses it skips spaces.
  char peek() {
    while (parentheses_ > 0 && at_ < text_.size() && text_[at_] == ' ') ++at_;
    return at_ < text_.size() ? text_[at_] : '\0';
  }

  Value sum() {
    int64_t value = TRY(product());
    while (true) {
      const char op = peek();
      if (op != '+' && op != '-') return value;
      ++at_;
      const uint64_t right = bits(TRY(product()));
      value = wrap(op == '+' ? bits(value) + right : bits(value) - right);
    }
  }

  Value product() {
    int64_t value = TRY(unary());
    while (true) {
      const char op = peek();
      if (op != '*' && op != '/' && op != '%') return value;
      ++at_;
      const int64_t right = TRY(unary());
      if (op == '*') {
        value = wrap(bits(value) * bits(right));
        continue;
      }
      if (right == 0) return std::unexpected("division by zero");
      // The smallest number divided by -1 does not fit, so -1 is a special case.
      if (right == -1)
        value = op == '/' ? wrap(0 - bits(value)) : 0;
      else
        value = op == '/' ? value / right : value % right;
    }
  }

  Value unary() {
    if (++depth_ > kMaxDepth) return std::unexpected("the expression is nested too deeply");
    Value value = unary_inside();
    --depth_;
    return value;
  }

  Value unary_inside() {
    const char c = peek();
    if (c == '\0' || c == ' ') return std::unexpected("unexpected end of expression");
    if (c == '+' || c == '-' || c == '~') {
      ++at_;
      const int64_t value = TRY(unary());
      return c == '-' ? wrap(0 - bits(value)) : c == '~' ? ~value : value;
    }
    if (c == '(') return parenthesis();
    if (c == '\'') return character();
    if (c == '$') return register_of_cpu();
    if (c >= '0' && c <= '9') return number();
    return std::unexpected(fmt::format("invalid char '{}' in expression", c));
  }

  Value parenthesis() {
    ++at_;
    ++parentheses_;
    const int64_t value = TRY(logic());
    if (peek() != ')') return std::unexpected("')' expected");
    ++at_;
    --parentheses_;
    return value;
  }

  Value character() {
    if (text_.size() - at_ < 3 || text_[at_ + 2] != '\'')
      return std::unexpected("missing terminating ' character");
    const auto value = static_cast<unsigned char>(text_[at_ + 1]);
    at_ += 3;
    return value;
  }

  Value register_of_cpu() {
    const size_t start = ++at_;
    while (at_ < text_.size() && (std::isalnum(static_cast<unsigned char>(text_[at_])) != 0 ||
                                  text_[at_] == '_' || text_[at_] == '.'))
      ++at_;
    const auto value = read_register_(text_.substr(start, at_ - start));
    if (!value) return std::unexpected(value.error());
    return wrap(*value);
  }

  Value number() {
    int base = 10;
    if (text_[at_] == '0' && at_ + 1 < text_.size()) {
      if ((text_[at_ + 1] | 0x20) == 'x') {
        base = 16;
        at_ += 2;
      } else if (text_[at_ + 1] >= '0' && text_[at_ + 1] <= '9') {
        base = 8;
        ++at_;
      }
    }
    uint64_t value = 0;
    const auto [end, error] =
        std::from_chars(text_.data() + at_, text_.data() + text_.size(), value, base);
    if (error == std::errc::result_out_of_range) return std::unexpected("number too large");
    if (error != std::errc()) return std::unexpected("invalid number in expression");
    at_ = static_cast<size_t>(end - text_.data());
    return wrap(value);
  }

  const std::string_view text_;
  const RegisterReader& read_register_;
  size_t at_ = 0;
  int depth_ = 0;
  int parentheses_ = 0;
};

}  // namespace

std::optional<uint64_t> register_value(const vmm::CpuRegisters& registers, std::string_view name) {
  constexpr std::array<std::string_view, 16> kGeneral = {"ax",  "cx",  "dx",  "bx", "sp",  "bp",
                                                         "si",  "di",  "r8",  "r9", "r10", "r11",
                                                         "r12", "r13", "r14", "r15"};
  for (size_t i = 0; i < kGeneral.size(); ++i) {
    const uint64_t value = registers.general[i];
    if (i >= 8) {
      if (name == kGeneral[i]) return value;
      continue;
    }
    if (name.size() != 3 || name.substr(1) != kGeneral[i]) continue;
    if (name[0] == 'r') return value;
    if (name[0] == 'e') return value & 0xffff'ffff;
  }
  struct Named {
    std::string_view name;
    uint64_t value;
  };
  const vmm::CpuRegisters& r = registers;
  const Named others[] = {
      {"rip", r.rip},         {"eip", r.rip & 0xffff'ffff},
      {"pc", r.rip},          {"rflags", r.rflags},
      {"eflags", r.rflags},   {"cs", r.cs.selector},
      {"ss", r.ss.selector},  {"ds", r.ds.selector},
      {"es", r.es.selector},  {"fs", r.fs.selector},
      {"gs", r.gs.selector},  {"cs.base", r.cs.base},
      {"ss.base", r.ss.base}, {"ds.base", r.ds.base},
      {"es.base", r.es.base}, {"fs.base", r.fs.base},
      {"gs.base", r.gs.base}, {"cr0", r.cr0},
      {"cr2", r.cr2},         {"cr3", r.cr3},
      {"cr4", r.cr4},         {"cr8", r.cr8},
      {"efer", r.efer},
  };
  for (const Named& other : others)
    if (other.name == name) return other.value;
  return std::nullopt;
}

std::expected<int64_t, std::string> parse_expression(std::string_view& text,
                                                     const RegisterReader& read_register) {
  Parser parser(text, read_register);
  const int64_t value = TRY(parser.logic());
  text = parser.rest();
  return value;
}

}  // namespace wick::control
