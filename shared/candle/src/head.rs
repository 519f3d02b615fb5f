//! From the last hidden states of one sequence to its answers. All of it is in f32, as in the engine.

use candle_core::{D, Result, Tensor};
use candle_nn::{Linear, Module, VarBuilder, linear, linear_b};
use defrost_model::{Answers, DenseActivation, Error, Head, ModelConfig, Wanted};

use crate::fault;

/// The weights that a model has after its transformer.
pub(crate) struct HeadWeights {
    head: Head,
    /// The layers of a classifier: the one before the last with its activation, and the last.
    classifier: Option<(Linear, DenseActivation, Linear)>,
    /// The rows of the words no and yes, in this order, of models that answer with one of them.
    no_yes: Option<Tensor>,
    /// Layers that a pooled vector goes through.
    dense: Vec<(Linear, DenseActivation)>,
    sparse: Option<Linear>,
    colbert: Option<Linear>,
}

impl HeadWeights {
    pub(crate) fn load(config: &ModelConfig, weights: &VarBuilder<'_>) -> Result<Self> {
        let (hidden, weights) = (config.hidden, weights.pp("head"));
        let activation = config.family.blueprint.classifier;
        let classifier = match (config.head, activation) {
            (Head::Classifier, Some(activation)) => Some((
                linear(hidden, hidden, weights.pp("dense"))?,
                activation,
                linear(hidden, 1, weights.pp("out"))?,
            )),
            _ => None,
        };
        let no_yes = match config.head {
            Head::YesNo => Some(weights.get((2, hidden), "tokens.weight")?),
            _ => None,
        };
        let mut inputs = hidden;
        let dense = config.dense.iter().enumerate().map(|(at, layer)| {
            let (given, taken) = (inputs, layer.outputs);
            inputs = taken;
            let own = linear_b(given, taken, layer.bias, weights.pp(format!("dense.{at}")))?;
            Ok((own, layer.activation))
        });
        let dense = dense.collect::<Result<_>>()?;
        let token_head = |name: &str, width: usize| {
            (width > 0).then(|| linear(hidden, width, weights.pp(name))).transpose()
        };
        Ok(Self {
            head: config.head,
            classifier,
            no_yes,
            dense,
            sparse: token_head("sparse", usize::from(config.token_heads.sparse))?,
            colbert: token_head("colbert", config.token_heads.colbert)?,
        })
    }

    /// Refuses what this model cannot answer.
    pub(crate) fn check(&self, wanted: Wanted) -> std::result::Result<(), Error> {
        for (name, wanted, head) in
            [("sparse", wanted.sparse, &self.sparse), ("ColBERT", wanted.colbert, &self.colbert)]
        {
            if wanted && head.is_none() {
                return Err(Error::Config(format!("the model has no {name} head")));
            }
        }
        Ok(())
    }

    /// The answers for hidden states `[tokens, hidden]`.
    pub(crate) fn answers(
        &self,
        states: &Tensor,
        wanted: Wanted,
    ) -> std::result::Result<Answers, Error> {
        self.all(states, wanted).map_err(fault)
    }

    fn all(&self, states: &Tensor, wanted: Wanted) -> Result<Answers> {
        let of_tokens = |head: &Option<Linear>, wanted: bool| match head {
            Some(head) if wanted => Ok(Some(head.forward(states)?)),
            _ => Ok::<_, candle_core::Error>(None),
        };
        let sparse = of_tokens(&self.sparse, wanted.sparse)?;
        let colbert = of_tokens(&self.colbert, wanted.colbert)?;
        let hidden = wanted.hidden.then_some(states);
        let values = |tensor: Option<&Tensor>| tensor.map_or(Ok(Vec::new()), flat);
        Ok(Answers {
            pooled: flat(&self.pooled(states)?)?,
            hidden: values(hidden)?,
            sparse: values(sparse.map(|weights| weights.relu()).transpose()?.as_ref())?,
            colbert: values(colbert.as_ref())?,
        })
    }

    /// The head's answer, `[1, outputs]`.
    fn pooled(&self, states: &Tensor) -> Result<Tensor> {
        let tokens = states.dim(0)?;
        let row = |at: usize| states.narrow(0, at, 1);
        if let Some((dense, activation, out)) = &self.classifier {
            return out.forward(&activate(*activation, &dense.forward(&row(0)?)?)?);
        }
        if let Some(no_yes) = &self.no_yes {
            let logits = row(tokens - 1)?.matmul(&no_yes.t()?)?;
            return logits.narrow(1, 1, 1)? - logits.narrow(1, 0, 1)?;
        }
        let mut pooled = match self.head {
            Head::FirstPooling => row(0)?,
            Head::LastPooling => row(tokens - 1)?,
            Head::MaxPooling => states.max_keepdim(0)?,
            Head::SqrtPooling => (states.sum_keepdim(0)? / (tokens as f64).sqrt())?,
            Head::WeightedPooling => {
                let weights = Tensor::arange(1f32, tokens as f32 + 1.0, states.device())?;
                let sum = weights.sum_all()?.to_scalar::<f32>()?;
                (states.broadcast_mul(&weights.unsqueeze(D::Minus1)?)?.sum_keepdim(0)?
                    / f64::from(sum))?
            }
            // The last three have answered above, or are of models that this runtime takes none of.
            Head::MeanPooling | Head::Classifier | Head::YesNo | Head::LanguageModel => {
                states.mean_keepdim(0)?
            }
        };
        for (layer, activation) in &self.dense {
            pooled = activate(*activation, &layer.forward(&pooled)?)?;
        }
        Ok(pooled)
    }
}

fn activate(activation: DenseActivation, values: &Tensor) -> Result<Tensor> {
    match activation {
        DenseActivation::Identity => Ok(values.clone()),
        DenseActivation::Tanh => values.tanh(),
        DenseActivation::Relu => values.relu(),
        DenseActivation::Gelu => values.gelu_erf(),
        DenseActivation::Silu => values.silu(),
        DenseActivation::Sigmoid => candle_nn::ops::sigmoid(values),
    }
}

/// All values, row-major.
fn flat(tensor: &Tensor) -> Result<Vec<f32>> {
    tensor.flatten_all()?.to_vec1()
}
