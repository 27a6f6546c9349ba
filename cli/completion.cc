#include "cli/completion.h"

#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <vector>

#include "cli/form.h"
#include "cli/image/create_options.h"
#include "cli/run_options.h"

namespace wick::cli {

namespace {

// Each script has a function that completes a value by its form (cli/form.h). In the scripts'
// forms '@' stands for a file's name, and whatever a shell cannot complete is left out.

constexpr const char* kBash = R"(# Completes the options of wick. Made by: wick --completion bash

# _wick_value FORM TYPED SPEC: adds to COMPREPLY what TYPED may become. In a SPEC a comma ends a
# value, so files with one in their names are left out.
_wick_value() {
  local alternatives alternative before file
  IFS='|' read -ra alternatives <<<"$1"
  for alternative in "${alternatives[@]}"; do
    before=${alternative%@}
    if [[ $alternative == *@ && $2 == "$before"* ]]; then
      compopt -o filenames 2>/dev/null # has bash quote the names
      while IFS= read -r file; do
        [[ -n $3 && $file == *,* ]] || COMPREPLY+=("$before$file")
      done < <(compgen -f -- "${2#"$before"}")
    elif [[ $before == "$2"* ]]; then
      COMPREPLY+=("$before")
      [[ $before != *[:=] ]] || compopt -o nospace 2>/dev/null
    fi
  done
}

_wick() {
  local -A words=() forms=()
@DATA@
  # bash splits words at '=' and ':'.
  local args=() i word
  for ((i = 0; i <= COMP_CWORD; ++i)); do
    word=${COMP_WORDS[i]}
    if ((i > 0)) && [[ $word == [=:]* || ${COMP_WORDS[i - 1]} == [=:]* ]]; then
      args[-1]+=$word
    else
      args+=("$word")
    fi
  done
  [[ $word != [=:]* ]] || word=
  local typed=${args[-1]} previous= command=wick form= before= spec=
  local split=${typed%"$word"}
  ((${#args[@]} < 2)) || previous=${args[-2]}
  for word in "${args[@]:1:${#args[@]}-2}"; do
    [[ -n ${words["$command $word"]+set} ]] || break
    command+=" $word"
  done

  COMPREPLY=()
  if [[ -n ${forms["$command $previous"]+set} ]]; then
    form=${forms["$command $previous"]}
  elif [[ $typed == --*=* ]]; then
    form=${forms["$command ${typed%%=*}"]-}
    before=${typed%%=*}=
  else
    for word in ${words["$command"]-}; do
      if [[ $word == "$typed"* && ($word != -* || $typed == -*) ]]; then COMPREPLY+=("$word"); fi
    done
    form=${forms["$command"]-}
  fi
  typed=${typed#"$before"}
  if [[ $form == *'[,'* ]]; then
    spec=1
    compopt -o nospace 2>/dev/null
    if [[ $form == '[,'* || $typed == *,* ]]; then
      [[ $typed != *,* ]] || before+=${typed%,*},
      typed=${typed##*,}
      word=${typed%%=*}
      if [[ $typed == "$word" ]]; then
        while [[ $form == *'[,'* ]]; do
          form=${form#*'[,'}
          [[ $form != "$typed"* ]] || COMPREPLY+=("${form%%=*}=")
        done
        form=
      else
        before+=$word=
        typed=${typed#*=}
        if [[ $form == *"[,$word="* ]]; then form=${form#*"[,$word="}; else form=; fi
        form=${form%%']'*}
      fi
    else
      form=${form%%'[,'*}
    fi
  fi
  _wick_value "$form" "$typed" "$spec"
  for i in "${!COMPREPLY[@]}"; do
    word=$before${COMPREPLY[i]}
    COMPREPLY[i]=${word#"$split"}
  done
}
complete -F _wick wick
)";

constexpr const char* kZsh = R"(#compdef wick
# Completes the options of wick. Made by: wick --completion zsh

# _wick_value FORM. In a SPEC a comma ends a value, so files with one in their names are left
# out.
_wick_value() {
  local form=$1 key alternative
  local -a suffix files
  if [[ $form == *'[,'* ]]; then
    if [[ $form == '[,'* || $PREFIX == *,* ]]; then
      compset -P '*,'
      if [[ $PREFIX == *=* ]]; then
        key=${PREFIX%%=*}
        compset -P 1 '*='
        [[ $form == *"[,$key="* ]] || return 1
        form=${${form#*"[,$key="}%%\]*}
      else
        while [[ $form == *'[,'* ]]; do
          form=${form#*\[,}
          compadd -S '' -- "${form%%=*}="
        done
        return
      fi
    else
      form=${form%%\[,*}
    fi
    suffix=(-S '')
    files=(-F '(*,*)')
  fi
  for alternative in ${(s:|:)form}; do
    if [[ $alternative != *@ ]]; then
      compadd "${suffix[@]}" -- $alternative
    elif [[ $alternative == @ ]] || compset -P "${alternative%@}"; then
      _files "${suffix[@]}" "${files[@]}"
    else
      compadd -S '' -- ${alternative%@}
    fi
  done
}

_wick() {
  local command=wick
  while ((CURRENT > 2)); do
    case "$command $words[2]" in
    @COMMANDS@) command+=" $words[2]" ;;
    *) break ;;
    esac
    shift words
    ((CURRENT -= 1))
  done
  case $command in
@DATA@
  esac
}

if [[ $funcstack[1] == _wick ]]; then _wick "$@"; else compdef _wick wick; fi
)";

constexpr const char* kFish = R"(# Completes the options of wick. Made by: wick --completion fish

# __wick_at COMMAND…: this is the command
function __wick_at
    set -l words (commandline -opc)
    test (count $words) -gt (count $argv); or return
    test "$words[2..$(math 1 + (count $argv))]" = "$argv"
end

# The same before one of its own commands.
function __wick_before
    set -l words (commandline -opc)
    test "$words[2..]" = "$argv"
end

# __wick_value FORM. In a SPEC a comma ends a value, so files with one in their names are left
# out.
function __wick_value
    set -l form $argv[1]
    set -l spec (string match -- '*[,*' $form)
    set -l typed (commandline -ct | string replace -r '^--[^=]*=' '')
    set -l before ''
    if string match -q '*[,*' -- $form
        if string match -q '[,*' -- $form; or string match -q '*,*' -- $typed
            set before (string replace -r '[^,]*$' '' -- $typed)
            set typed (string replace -r '^.*,' '' -- $typed)
            if not string match -q '*=*' -- $typed
                string replace -r '^' -- $before (string match -arg '\[,([^=]*=)' -- $form)
                return
            end
            set -l parts (string split -m 1 = -- $typed)
            set before $before$parts[1]=
            set typed $parts[2]
            set form (string match -rg '\[,'$parts[1]'=([^\]]*)' -- $form)
        else
            set form (string split -m 1 '[,' -- $form)[1]
        end
    end
    for alternative in (string split '|' -- $form)
        set -l start (string replace -r '@$' '' -- $alternative)
        if test "$alternative" = "$start"
            echo $before$start
        else if test -z "$start"; or string match -q "$start*" -- $typed
            for file in (__fish_complete_path (string sub -s (math 1 + (string length -- "$start")) -- $typed))
                test -n "$spec"; and string match -q '*,*' -- $file; or echo $before$start$file
            end
        else
            echo $before$start
        end
    end
end

complete -c wick -f
@DATA@)";

// FILE, FILE2, PATH, BASE
bool is_file(std::string_view name) {
  return name.starts_with("FILE") || name == "PATH" || name == "BASE";
}

// Rewrites a form of cli/form.h for the scripts: "auto|FILE" becomes "auto|@", "N" becomes "".
std::string for_script(std::string_view form) {
  std::vector<std::string> parts;
  for (const std::string_view alternative : alternatives(form)) {
    const size_t kind =
        std::ranges::find_if(alternative, [](char c) { return c >= 'A' && c <= 'Z'; }) -
        alternative.begin();
    std::string part(alternative.substr(0, kind));
    if (is_file(alternative.substr(kind))) part += '@';
    if (!part.empty()) parts.push_back(part);
  }
  std::string text = fmt::format("{}", fmt::join(parts, "|"));
  for (const SpecKey& key : spec_keys(form))
    text += fmt::format("[,{}={}]", key.name, for_script(key.form));
  return text;
}

struct Word {
  std::vector<std::string> names;  // of an option, with dashes, or of a command
  std::string help;
  bool takes_value = false;
  std::string form;  // of the value, for the script
};

// A place on the command line, behind a command, and what may stand there.
struct Place {
  std::string command;  // "wick image create"
  std::vector<Word> options;
  std::vector<Word> commands;
  std::string form;  // of the positional arguments
};

std::string form_of(const CLI::App& command, const CLI::Option& option) {
  if (command.get_name() == "run")
    for (const RunOption& row : run_options())
      if (option.check_name(std::string(row.row().last_name()))) return for_script(row.form());
  const std::string form = option.get_type_name();
  if (form == "k=v,...") return for_script(create_options_form(block::Format::kQcow2));
  return for_script(form.empty() ? option.get_name() : form);
}

Place place_of(const CLI::App& command, const std::string& path) {
  Place place{path, {}, {}, {}};
  for (const CLI::Option* const option : command.get_options()) {
    const std::string form = form_of(command, *option);
    if (option->get_positional()) {
      if (place.form.empty()) place.form = form;
      continue;
    }
    if (option->get_group().empty()) continue;
    Word word{{}, option->get_description(), option->get_items_expected_max() > 0, form};
    for (const std::string& name : option->get_snames()) word.names.push_back("-" + name);
    for (const std::string& name : option->get_lnames()) word.names.push_back("--" + name);
    place.options.push_back(std::move(word));
  }
  for (const CLI::App* const below : command.get_subcommands({}))
    place.commands.push_back({{below->get_name()}, below->get_description(), false, {}});
  return place;
}

// Adds the place behind the command and, if it has subcommands, the one behind `wick help` and
// its name; then, recursively, the places of the subcommands.
void add_places(std::vector<Place>& places, const CLI::App& command, const std::string& path) {
  Place place = place_of(command, path);
  if (!place.commands.empty())
    places.push_back({"wick help" + path.substr(4), {}, place.commands, {}});
  if (path == "wick")
    place.commands.push_back({{"help"}, "Prints the help of a command.", false, {}});
  places.push_back(std::move(place));
  for (const CLI::App* const below : command.get_subcommands({}))
    add_places(places, *below, path + " " + below->get_name());
}

// Puts the text in quotes that all three shells understand.
std::string quoted(const std::string& text) {
  return "'" + CLI::detail::find_and_replace(text, "'", "'\\''") + "'";
}

std::string bash_data(const std::vector<Place>& places) {
  std::string text;
  for (const Place& place : places) {
    std::vector<std::string> words;
    for (const auto* const list : {&place.commands, &place.options})
      for (const Word& word : *list)
        words.insert(words.end(), word.names.begin(), word.names.end());
    text += fmt::format("  words['{}']='{}'\n", place.command, fmt::join(words, " "));
    if (!place.form.empty()) text += fmt::format("  forms['{}']='{}'\n", place.command, place.form);
    for (const Word& option : place.options)
      for (const std::string& name : option.names)
        if (option.takes_value)
          text += fmt::format("  forms['{} {}']='{}'\n", place.command, name, option.form);
  }
  return text;
}

std::string zsh_action(const std::string& form) {
  if (form.empty()) return " ";
  return " _wick_value \"" + CLI::detail::find_and_replace(form, ":", "\\:") + '"';
}

std::string zsh_data(const std::vector<Place>& places) {
  std::string text;
  for (const Place& place : places) {
    text += fmt::format("  '{}')\n    _arguments -s", place.command);
    for (const Word& option : place.options) {
      const std::string value = option.takes_value ? ":value:" + zsh_action(option.form) : "";
      for (const std::string& name : option.names)
        text += " \\\n      " +
                quoted(fmt::format("*{}{}[{}]{}", name,
                                   option.takes_value && name.starts_with("--") ? "=" : "",
                                   option.help, value));
    }
    if (!place.commands.empty()) {
      std::string list;
      for (const Word& command : place.commands)
        list += fmt::format("{}\\:\"{}\" ", command.names.front(), command.help);
      text += " \\\n      " + quoted(fmt::format(":command:(({}))", list));
    } else if (!place.form.empty()) {
      text += " \\\n      " + quoted("*:argument:" + zsh_action(place.form));
    }
    text += "\n    ;;\n";
  }
  return text;
}

std::string fish_value(const std::string& form) {
  if (form.empty()) return "";
  return fmt::format(" -a '(__wick_value \"{}\")'", form);
}

std::string fish_data(const std::vector<Place>& places) {
  std::string text;
  for (const Place& place : places) {
    const std::string own = place.command.substr(4);
    const std::string start =
        fmt::format("complete -c wick -n '__wick_{}{}'", own.empty() ? "before" : "at", own);
    for (const Word& option : place.options) {
      text += start;
      for (const std::string& name : option.names)
        text += name.starts_with("--") ? " -l " + name.substr(2) : " -s " + name.substr(1);
      if (option.takes_value) text += " -x" + fish_value(option.form);
      text += " -d " + quoted(option.help) + '\n';
    }
    for (const Word& command : place.commands)
      text += fmt::format("complete -c wick -n '__wick_before{}' -a {} -d {}\n", own,
                          command.names.front(), quoted(command.help));
    if (!place.form.empty()) text += start + fish_value(place.form) + '\n';
  }
  return text;
}

std::string replaced(const char* script, const char* what, const std::string& by) {
  return CLI::detail::find_and_replace(script, what, by);
}

}  // namespace

std::string completion_script(const CLI::App& wick, std::string_view shell) {
  std::vector<Place> places;
  add_places(places, wick, "wick");
  if (shell == "bash") return replaced(kBash, "@DATA@\n", bash_data(places));
  if (shell == "fish") return replaced(kFish, "@DATA@", fish_data(places));
  std::vector<std::string> commands;
  commands.reserve(places.size());
  for (const Place& place : places) commands.push_back('\'' + place.command + '\'');
  return CLI::detail::find_and_replace(replaced(kZsh, "@DATA@\n", zsh_data(places)), "@COMMANDS@",
                                       fmt::format("{}", fmt::join(commands, " | ")));
}

}  // namespace wick::cli
