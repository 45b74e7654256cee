"""The parts of the completion scripts that stay the same, whatever the commands."""

BASH = """\
# Completion of dlkd for bash.
_dlkd() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} command=${COMP_WORDS[1]}
    local options='' choices='' files='' value='' line
    COMPREPLY=()
    # bash cuts --option=value into three words.
    if [[ $cur == '=' ]]; then cur=''
    elif [[ $prev == '=' ]]; then prev=${COMP_WORDS[COMP_CWORD-2]}
    fi
    if ((COMP_CWORD < 2)); then command=''
    elif [[ $command == store ]]; then
        command='store '
        if ((COMP_CWORD > 2)); then command+=${COMP_WORDS[2]}; fi
    fi
    case $command in
    '') choices='@COMMANDS@'; options='--help --version' ;;
@CASES@
    esac
    if [[ $cur == -* && -z $value ]]; then choices=$options; files=''; fi
    COMPREPLY=($(compgen -W "$choices" -- "$cur"))
    if [[ -n $files ]]; then
        compopt -o filenames 2>/dev/null
        while IFS= read -r line; do COMPREPLY+=("$line"); done < <(compgen -f -- "$cur")
    fi
}
complete -F _dlkd dlkd
"""

ZSH = """\
#compdef dlkd
# Completion of dlkd for zsh.
_dlkd() {
    local prev=${words[CURRENT-1]} command=${words[2]} given=${words[3]}
    local options='' choices='' files='' value=''
    if [[ $PREFIX == --*=* ]]; then
        prev=${PREFIX%%=*}
        compset -P '*='
    fi
    if ((CURRENT < 3)); then command=''
    elif [[ $command == store ]]; then
        command='store '
        if ((CURRENT > 3)); then command+=$given; fi
    fi
    case $command in
    '') choices='@COMMANDS@'; options='--help --version' ;;
@CASES@
    esac
    if [[ $PREFIX == -* && -z $value ]]; then choices=$options; files=''; fi
    compadd -- ${=choices}
    if [[ -n $files ]]; then _files; fi
}
if (( $+functions[compdef] )); then compdef _dlkd dlkd; fi
"""

FISH = """\
# Completion of dlkd for fish.
function __dlkd_command
    set -l given (commandline -opc)
    set -l found $given[2]
    if test "$found" = store
        set found (string join ' ' store $given[3])
    end
    echo $found
end
"""
