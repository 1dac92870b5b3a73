#!/bin/sh
# Build the C and C++ peers of the text benchmarks, each with the flags of its own makefile (-O3 -march=native).
#
#   benchmarks/peers/build.sh [SOURCES] [INTO]
#
# SOURCES: a folder that holds clones named word2vec, fastText and GloVe; those that are not there are left out. Without
# it (or with "") all three are cloned from GitHub. INTO: where they are built, .venv-peers/c of this repository.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
sources=${1:-}
into=${2:-$root/.venv-peers/c}
mkdir -p "$into"

# peer NAME REPOSITORY COMMIT TARGET
peer() {
    if [ ! -d "$into/$1" ]; then
        if [ -z "$sources" ]; then
            git clone -q "https://github.com/$2" "$into/$1"
            git -C "$into/$1" checkout -q "$3"
        elif [ -d "$sources/$1" ]; then
            cp -R "$sources/$1" "$into/$1"
            make -s -C "$into/$1" clean
        else
            echo "$1: no folder $sources/$1, left out" >&2
            return
        fi
    fi
    make -s -C "$into/$1" "$4" >/dev/null
    echo "$1: built in $into/$1"
}

peer word2vec tmikolov/word2vec 20c129af10659f7c50e86e3be406df663beff438 word2vec
peer fastText facebookresearch/fastText 1142dc4c4ecbc19cc16eee5cdd28472e689267e6 opt
peer GloVe stanfordnlp/GloVe 52f7dbc512be3f72e9c11e7cbb19dfdfa4651e9c all
