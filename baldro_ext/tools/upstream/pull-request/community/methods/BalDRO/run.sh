#!/bin/bash

# Unlearns TOFU with BalDRO and evaluates the result. Run it from the root of the repository.
#
# Each list below can be set from outside, and Hydra overrides reach both commands:
#   TRAINERS="BalDRO_G_SimNPO" SPLITS="forget01" LRS="5e-5" SEEDS="0 1" bash community/methods/BalDRO/run.sh

set -e

model=${MODEL:-Llama-3.2-1B-Instruct}
target=${TARGET:-open-unlearning/tofu_${model}_full}
trainers=(${TRAINERS:-BalDRO_DV BalDRO_G BalDRO_DV_SimNPO BalDRO_G_SimNPO BalDRO_DV_SatImp BalDRO_G_SatImp})
splits=(${SPLITS:-forget01 forget05 forget10})
lrs=(${LRS:-1e-5 2e-5 5e-5 1e-4})
seeds=(${SEEDS:-0})

for split in "${splits[@]}"; do
    percent=${split#forget}
    retain_split=retain$((100 - 10#$percent))
    data=(
        forget_split=$split
        holdout_split=holdout$percent
        retain_logs_path=saves/eval/tofu_${model}_${retain_split}/TOFU_EVAL.json
    )
    for trainer in "${trainers[@]}"; do
        for lr in "${lrs[@]}"; do
            for seed in "${seeds[@]}"; do
                task_name=tofu_${model}_${split}_${trainer}_lr${lr}_seed${seed}
                unlearned=saves/unlearn/$task_name
                echo "$task_name"

                # The worst case is taken over the samples of one micro-batch, so large ones are better than accumulation
                python src/train.py --config-name=unlearn.yaml experiment=unlearn/tofu/default \
                    trainer=$trainer task_name=$task_name model=$model "${data[@]}" retain_split=$retain_split \
                    model.model_args.pretrained_model_name_or_path=$target \
                    trainer.args.learning_rate=$lr trainer.args.seed=$seed \
                    trainer.args.per_device_train_batch_size=16 trainer.args.gradient_accumulation_steps=2 \
                    trainer.args.eval_strategy=no trainer.args.eval_on_start=False \
                    "$@"

                python src/eval.py experiment=eval/tofu/default \
                    task_name=$task_name model=$model "${data[@]}" \
                    model.model_args.pretrained_model_name_or_path=$unlearned paths.output_dir=$unlearned/evals \
                    "$@"
            done
        done
    done
done
