#include "cli/completion_scripts.h"

namespace wick::cli {

const char* const kBash = R"(# Completes the options of wick. Made by: wick --completion bash

# Prints the names of machines.
_wick_machines() {
  local folder=${XDG_RUNTIME_DIR-} file
  if [[ $folder == /* && -d $folder ]]; then folder+=/wick; else folder=/tmp/wick-$EUID; fi
  ((EUID != 0)) || folder=/run/wick
  [[ ${WICK_RUNTIME_DIR-} != /* ]] || folder=$WICK_RUNTIME_DIR
  for file in "$folder"/*/lock "${XDG_CONFIG_HOME:-$HOME/.config}"/wick/*.toml; do
    [[ -e $file && $file != "$folder/net/lock" ]] || continue
    file=${file%/lock}
    file=${file%.toml}
    printf '%s\n' "${file##*/}"
  done | sort -u
}

# _wick_value FORM TYPED SPEC: adds to COMPREPLY what TYPED may become. In a SPEC a comma ends a
# value, so files with one in their names are left out.
_wick_value() {
  local alternatives alternative before file
  IFS='|' read -ra alternatives <<<"$1"
  for alternative in "${alternatives[@]}"; do
    before=${alternative%@}
    if [[ $alternative == % ]]; then
      while IFS= read -r file; do
        [[ $file == "$2"* ]] || continue
        printf -v file %q "$file"
        COMPREPLY+=("$file")
      done < <(_wick_machines)
    elif [[ $alternative == *@ && $2 == "$before"* ]]; then
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

const char* const kZsh = R"(#compdef wick
# Completes the options of wick. Made by: wick --completion zsh

# Adds the names of machines.
_wick_machines() {
  local folder=${XDG_RUNTIME_DIR-}
  local -a files names
  if [[ $folder == /* && -d $folder ]]; then folder+=/wick; else folder=/tmp/wick-$EUID; fi
  if ((EUID == 0)); then folder=/run/wick; fi
  if [[ ${WICK_RUNTIME_DIR-} == /* ]]; then folder=$WICK_RUNTIME_DIR; fi
  files=($folder/*/lock(N:h) ${XDG_CONFIG_HOME:-$HOME/.config}/wick/*.toml(N:r))
  names=(${${files:#$folder/net}:t})
  compadd -a names
}

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
    if [[ $alternative == % ]]; then
      _wick_machines
    elif [[ $alternative != *@ ]]; then
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

const char* const kFish = R"(# Completes the options of wick. Made by: wick --completion fish

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

# Prints the names of machines.
function __wick_machines
    set -l folder /tmp/wick-(id -u)
    if string match -q '/*' -- $XDG_RUNTIME_DIR; and test -d "$XDG_RUNTIME_DIR"
        set folder $XDG_RUNTIME_DIR/wick
    end
    test (id -u) -eq 0; and set folder /run/wick
    string match -q '/*' -- $WICK_RUNTIME_DIR; and set folder $WICK_RUNTIME_DIR
    set -l config $HOME/.config
    set -q XDG_CONFIG_HOME; and set config $XDG_CONFIG_HOME
    begin
        for file in $folder/*/lock
            string replace -r '/lock$' '' -- $file | string replace -r '.*/' ''
        end
        for file in $config/wick/*.toml
            string replace -r '\.toml$' '' -- $file | string replace -r '.*/' ''
        end
    end | string match -v net | sort -u
end

# __wick_value FORM. In a SPEC a comma ends a value, so files with one in their names are left
# out.
function __wick_value
    set -l form $argv[1]
    if test "$form" = %
        __wick_machines
        return
    end
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

}  // namespace wick::cli
