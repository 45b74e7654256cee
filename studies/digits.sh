#!/bin/sh
# studies/digits.yaml from end to end: three teachers, eight trials for each method on each, ten fresh seeds.
#   studies/digits.sh WORK
# What is finished is not run again. Ends with WORK/CONDITION/results.json for results/digits-CONDITION.json.
set -eu
work=$1
teacher() { # NAME OPTIONS
  name=$1; shift
  [ -f "$work/teachers/$name/results.json" ] || dlkd train --data.name digits --data.held_out 0.2 --data.test_share 0.3 \
    --model resnet14 --optim.optimizer adamw --optim.lr 0.01 --optim.weight_decay 0.05 --optim.schedule one_cycle \
    --optim.batch_size 64 --engine.threads 1 --engine.report false "$@" --overwrite --out "$work/teachers/$name"
}
teacher clean --epochs 15
teacher sym40 --data.noise 0.4 --epochs 15
teacher memorised --data.noise 0.4 --views.augment none --epochs 60
for name in memorised sym40 clean; do
  noise=0.4; [ $name = clean ] && noise=0
  set -- --run.teacher.weights "$work/teachers/$name" --run.data.noise $noise
  if [ $name = clean ]; then  # the predictions of a sure teacher, sharpened, do not differ from those of its probe
    set -- "$@" --methods.dlkd.loss.distance_temperature 1 --methods.dlkd-robust.loss.distance_temperature 1 \
      --methods.dlkd-dist.loss.distance_temperature 1
  fi
  dlkd tune --config studies/digits.yaml --config studies/digits-space.yaml "$@" --out "$work/$name-tune"
  dlkd compare --config studies/digits.yaml --config "$work/$name-tune/tuned.yaml" "$@" --seeds "$(seq -s, 10 19 | sed 's/.*/[&]/')" \
    --out "$work/$name" --final --ledger results/ledger.jsonl
done
