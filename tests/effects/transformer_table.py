"""What is tried of the keys of transformers; `tables` says how to read it."""

GPT2 = (
    "data:tokens; model={name: hugging_face, config: {model_type: gpt2, n_embd: 8, n_layer: 1, n_head: 1, "
    "resid_pdrop: 0, embd_pdrop: 0, attn_pdrop: 0}}"
)
LORA = f"{GPT2}; model.peft={{name: lora, r: 2}}"

TRANSFORMERS = f"""
model=hugging_face |
    {{name: hugging_face, config: {{model_type: gpt2, n_embd: 8, n_layer: 1, n_head: 1}}}} | data:tokens
model=hugging_face.path | nowhere | {GPT2}
model=hugging_face.hub | nobody/nothing | {GPT2}
model=hugging_face.config | {{model_type: gpt2, n_embd: 16, n_layer: 1, n_head: 1}} | {GPT2}
model=hugging_face.task | sequence_classification | {GPT2}
model=hugging_face.peft=lora | {{name: lora, r: 2}} | {GPT2}
model=hugging_face.peft=lora.r | 3 | {LORA}
model=hugging_face.peft=lora.alpha | 99 | {LORA}
model=hugging_face.peft=lora.dropout | 0.5 | {LORA}
model=hugging_face.peft=lora.targets | [c_fc] | {LORA}
model=hugging_face.peft=lora.rank_stabilised | true | {LORA}
model=hugging_face.peft=ia3 | ia3 | {GPT2}
model=hugging_face.peft=ia3.targets | [c_proj] | {GPT2}; model.peft={{name: ia3, feedforward: []}}
model=hugging_face.peft=ia3.feedforward | [c_fc] |
    {GPT2}; model.peft={{name: ia3, targets: [c_fc], feedforward: []}}
model=hugging_face.peft=prompt | {{name: prompt, length: 2}} | {GPT2}
model=hugging_face.peft=prompt.length | 3 | {GPT2}; model.peft={{name: prompt, length: 2}}
model=hugging_face.train | ["*ln_f*"] | {LORA}
model=hugging_face.freeze | ["*ln_f*"] | {GPT2}
model=hugging_face.dtype | bfloat16 | {LORA}
model=hugging_face.bits | 4 | {LORA}
model=hugging_face.attention | eager | {GPT2}
model=hugging_face.weights | <FOLDER>/softmax.safetensors | {GPT2}
model=hugging_face.fingerprint | 123 | {GPT2}
"""
