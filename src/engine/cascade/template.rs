//! How a conversation is written down for a language model: ChatML (Qwen2, SmolLM) or Llama 3.
//!
//! Pure: turns roles and texts into ids. Invariant: control tokens are put in by id, never by parsing text, so nothing a
//! user says can end a message.

use super::vocabulary::Vocabulary;
use crate::engine::EngineError;
use crate::engine::gguf::Gguf;

/// Who a message is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    System,
    User,
    Assistant,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
        }
    }
}

/// How one model wants its conversation written, in ids.
#[derive(Clone, Debug)]
pub struct Template {
    begin: Option<u32>,
    /// The head of a message, per role in the order of [`Role`].
    heads: [Vec<u32>; 3],
    tail: Vec<u32>,
    terminators: Vec<u32>,
}

impl Template {
    /// Finds the template by the control tokens that the file's vocabulary has.
    ///
    /// # Errors
    /// When it is of neither family: a model that was not made for conversation, or of another kind.
    pub fn find(file: &Gguf, vocabulary: &Vocabulary) -> Result<Self, EngineError> {
        let id = |name| vocabulary.control(name);
        let written = file.text("tokenizer.chat_template").unwrap_or_default();
        let chat_ml = id("<|im_start|>").zip(id("<|im_end|>"));
        let llama3 = id("<|start_header_id|>").zip(id("<|end_header_id|>")).zip(id("<|eot_id|>"));
        let text = |t: &str| vocabulary.encode(t);
        let roles = [Role::System, Role::User, Role::Assistant];
        let mut heads = [const { Vec::new() }; 3];
        let (end, tail) = match (chat_ml, llama3) {
            // `<|start_header_id|>role<|end_header_id|>\n\ntext<|eot_id|>`
            (chat_ml, Some(((start, end_of_header), end)))
                if chat_ml.is_none() || written.contains("<|start_header_id|>") =>
            {
                for (head, role) in heads.iter_mut().zip(roles) {
                    head.push(start);
                    head.extend(text(role.name())?);
                    head.push(end_of_header);
                    head.extend(text("\n\n")?);
                }
                (end, vec![end])
            }
            // `<|im_start|>role\ntext<|im_end|>\n`
            (Some((start, end)), _) => {
                for (head, role) in heads.iter_mut().zip(roles) {
                    head.push(start);
                    head.extend(text(&format!("{}\n", role.name()))?);
                }
                (end, [vec![end], text("\n")?].concat())
            }
            _ => {
                return Err(EngineError::Unsupported(format!(
                    "{} has no conversation template this program knows (ChatML or Llama 3): choose an instruction-tuned model of the Qwen2 or Llama 3 family",
                    file.path().display()
                )));
            }
        };
        let mut terminators = vec![end];
        terminators.extend(["<|endoftext|>", "<|end_of_text|>", "<|eom_id|>"].into_iter().filter_map(id));
        terminators.extend(vocabulary.end_of_text());
        Ok(Self { begin: vocabulary.begin_of_text(), heads, tail, terminators })
    }

    /// What every conversation begins with.
    pub fn begin(&self) -> Option<u32> {
        self.begin
    }

    /// What stands before a message's text.
    pub fn head(&self, role: Role) -> &[u32] {
        &self.heads[role as usize]
    }

    /// What stands after a message's text.
    pub fn tail(&self) -> &[u32] {
        &self.tail
    }

    /// Whether the model ends its answer with `id`.
    pub fn ends(&self, id: u32) -> bool {
        self.terminators.contains(&id)
    }
}
